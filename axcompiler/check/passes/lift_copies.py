"""Copies of codes move behind the DequantizeLinear, where the reader of QDQ understands them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx
from onnx import helper

from axforge.axcompiler.check.passes.base import PreparingPass
from axforge.axcompiler.onnx_graph.net import Net
from axforge.axcompiler.operators import find


@dataclass(frozen=True)
class LiftCopies(PreparingPass):
    """Let operators that copy codes copy real numbers.

    x ── Q ── MaxPool ── DQ ── y      becomes      x ── Q ── DQ ── MaxPool ── Q ── DQ ── y

    The numbers are the same: a copy of codes dequantizes to the copy of the real numbers, and quantizes back to itself.
    """

    at: ClassVar[tuple[int, ...]] = (275,)

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        parameters: dict[str, Sequence[str]] = {}
        nodes: list[onnx.NodeProto] = []
        moved: list[str] = []
        for node in net.nodes:
            if node.op_type == "QuantizeLinear" and (scale := net.constant(node.input[1])) is not None and scale.size == 1:
                parameters[node.output[0]] = list(node.input[1:])
            operator = find(node.op_type, node.domain)
            copied = operator.copied_codes(node) if operator else ()
            if copied and node.input[0] in parameters:
                parameters |= dict.fromkeys(node.output, parameters[node.input[0]])
                nodes += _lifted(node, copied, parameters[node.input[0]])
                moved.append(f"moved '{node.name}' behind its DequantizeLinear")
            else:
                nodes.append(node)
        net.nodes = nodes
        return moved


def _lifted(node: onnx.NodeProto, copied: Sequence[int], parameters: Sequence[str]) -> list[onnx.NodeProto]:
    """The copy in float. copied: inputs that hold codes."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    target = node.output[0]
    before, after = [], []
    for i in copied:
        copy.input[i] = f"{node.input[i]}.{target}.real"
        before.append(helper.make_node("DequantizeLinear", [node.input[i], *parameters], [copy.input[i]], name=f"{target}.dq{i or ''}"))
    for i, codes in enumerate(node.output):
        copy.output[i] = f"{codes}.real"
        after.append(helper.make_node("QuantizeLinear", [copy.output[i], *parameters], [codes], name=f"{codes}.q"))
    return [*before, copy, *after]
