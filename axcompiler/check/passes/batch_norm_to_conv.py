"""A batch normalization that no layer can take in becomes a convolution."""

from dataclasses import dataclass
from typing import ClassVar

from onnx import helper

from axforge.axcompiler.check.passes.base import RepeatedPass, batch_norm, set_weights
from axforge.axcompiler.onnx_graph.net import Net


@dataclass(frozen=True)
class BatchNormToConv(RepeatedPass):
    """Turn a BatchNormalization that no layer can absorb into a depthwise convolution.

    x [N, C, H, W] ── BatchNormalization ── y      becomes      x ── Conv 1x1 with C groups ── y

    It has a scale for each channel, which int8 weights can express. One that reads an input of the model stays: it is pre-processing.
    """

    at: ClassVar[tuple[int, ...]] = (440,)

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        for node in net.nodes:
            if node.op_type != "BatchNormalization" or node.domain not in ("", "ai.onnx"):
                continue
            pair, shape = batch_norm(net, node), net.shapes.get(node.input[0], ())
            if pair is None or len(shape) != 4 or net.types.get(node.input[0]) != 1 or node.input[0] in {i.name for i in net.inputs}:
                continue  # (of an input it is pre-processing, and stays in float32)
            scale, shift = pair
            node.op_type = "Conv"
            del node.attribute[:], node.output[1:]
            node.attribute.extend([helper.make_attribute("group", shape[1]), helper.make_attribute("kernel_shape", [1, 1])])
            set_weights(net, node, scale.reshape(-1, 1, 1, 1), shift)
            return [f"made a Conv of '{node.name}'"]
        return []
