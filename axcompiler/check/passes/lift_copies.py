"""Copies of codes move behind the DequantizeLinear, where the reader of QDQ understands them."""

from dataclasses import dataclass
from typing import ClassVar

from axforge.axcompiler.check.passes.base import PreparingPass
from axforge.axcompiler.onnx_graph.net import Net
from axforge.axcompiler.qdq.integers import lifted


@dataclass(frozen=True)
class LiftCopies(PreparingPass):
    """Let operators that copy codes copy real numbers.

    x ── Q ── MaxPool ── DQ ── y      becomes      x ── Q ── DQ ── MaxPool ── Q ── DQ ── y
    """

    at: ClassVar[tuple[int, ...]] = (275,)

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        old = net.nodes
        net.nodes = lifted(net.nodes, lambda name: (value := net.constant(name)) is not None and value.size == 1)
        stayed = {id(node) for node in net.nodes}
        return [f"moved '{node.name}' behind its DequantizeLinear" for node in old if id(node) not in stayed]
