"""Operators and values that nothing uses are left out."""

from dataclasses import dataclass
from typing import ClassVar

from axforge.axcompiler.ir import Graph
from axforge.axcompiler.optimize.graph_edit import GraphPass, result, without_unused
from axforge.axcompiler.passes import PassResult


@dataclass(frozen=True)
class DropUnused(GraphPass):
    """Leave out operators, tensors, constants and islands that nothing uses.

    x ─┬─ op ── y
       └─ op ── z (nothing reads z)      becomes      x ── op ── y
    """

    at: ClassVar[tuple[int, ...]] = (100,)

    def apply(self, graph: Graph) -> PassResult[Graph]:
        """Rewrite the graph once."""
        return result(graph, without_unused(graph))
