"""A quantized constant that is rearranged after it was dequantized is stored rearranged."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from onnx import NodeProto

from axforge.axcompiler.check.passes.base import REARRANGES, RepeatedPass
from axforge.axcompiler.check.quantized import QuantizedConstant, add_quantized, insert_before, quantized_constant
from axforge.axcompiler.names import Names
from axforge.axcompiler.onnx_graph.net import Net, attribute


@dataclass(frozen=True)
class TransposeQuantized(RepeatedPass):
    """Rearrange the codes of a constant instead of its numbers.

    codes ── DQ ── Transpose ── Conv      becomes      other codes ── DQ ── Conv

    So it is for Reshape, Squeeze, Unsqueeze and Flatten of a constant with one scale. TensorFlow and PyTorch keep weights in an order of
    their own and quantize them in it.
    """

    at: ClassVar[tuple[int, ...]] = (310,)
    on_float: ClassVar[bool] = False
    on_quantized: ClassVar[bool] = True
    keeps_shapes: ClassVar[bool] = False

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        makers = net.makers()
        names = Names({*net.names(), *(node.name for node in net.nodes)})
        dead, notes = [], []
        for node in list(net.nodes):
            weight = quantized_constant(net, makers.get(node.input[0])) if node.op_type in REARRANGES and node.input else None
            moved = _moved(net, node, weight) if weight is not None and node.output[0] not in net.output_names else None
            if moved is None:
                continue
            whole = add_quantized(net, moved, node.name, names)
            insert_before(net, node, [whole])
            net.replace_value(node.output[0], whole.output[0])
            dead.append(node)
            notes.append(f"did '{node.name}' on codes")
        net.remove(dead, "it rearranges a quantized constant, which was done in advance")
        return notes


def _moved(net: Net, node: NodeProto, weight: QuantizedConstant) -> QuantizedConstant | None:
    """The constant after the node; None where its scales would lie along no axis, or the shape is not known."""
    if node.op_type == "Transpose":
        perm = list(attribute(node, "perm", range(weight.codes.ndim)[::-1]))
        axis = perm.index(weight.axis) if weight.scale.size > 1 else 0
        return QuantizedConstant(np.ascontiguousarray(weight.codes.transpose(perm)), weight.scale, weight.zero, axis)
    shape = net.shapes.get(node.output[0])
    if shape is None or weight.scale.size > 1:
        return None
    return QuantizedConstant(weight.codes.reshape(shape), weight.scale, weight.zero, 0)
