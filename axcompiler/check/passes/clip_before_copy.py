"""A clip moves before the rearrangement that it follows, to the layer that it belongs to."""

from dataclasses import dataclass
from typing import ClassVar

from onnx import NodeProto

from axforge.axcompiler.check.passes.base import REARRANGES, RepeatedPass
from axforge.axcompiler.onnx_graph.net import Net


@dataclass(frozen=True)
class ClipBeforeCopy(RepeatedPass):
    """Exchange a rearrangement and the clip after it.

    Gemm ── Reshape ── Relu ── Q      becomes      Gemm ── Relu ── Reshape ── Q

    A quantized model has no Q between a layer and its Relu, which so become one operator of the AIPU.
    """

    at: ClassVar[tuple[int, ...]] = (430,)
    on_float: ClassVar[bool] = False
    on_quantized: ClassVar[bool] = True
    keeps_shapes: ClassVar[bool] = False

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        makers, users = net.makers(), net.users()
        for clip in net.nodes:
            copy = makers.get(clip.input[0]) if clip.op_type in ("Relu", "Clip") and not clip.domain else None
            if copy is None or copy.op_type not in REARRANGES or copy.domain or len(users[copy.output[0]]) != 1:
                continue
            if copy.output[0] not in net.output_names and _made_by_node(copy, makers):
                _exchange(net, copy, clip)
                return [f"exchanged '{copy.name}' and '{clip.name}'"]
        return []


def _made_by_node(copy: NodeProto, makers: dict[str, NodeProto]) -> bool:
    """Whether a computation comes before the rearrangement, and not a DequantizeLinear."""
    maker = makers.get(copy.input[0])
    return maker is not None and maker.op_type != "DequantizeLinear"


def _exchange(net: Net, copy: NodeProto, clip: NodeProto) -> None:
    before, between, after = copy.input[0], copy.output[0], clip.output[0]
    clip.input[0], clip.output[0] = before, between
    copy.input[0], copy.output[0] = between, after
    net.nodes = [n for n in net.nodes if n is not copy]
    at = next(i for i, n in enumerate(net.nodes) if n is clip) + 1
    net.nodes.insert(at, copy)
