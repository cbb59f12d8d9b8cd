"""Equal constants are kept once."""

from dataclasses import dataclass, replace
from typing import ClassVar

from axforge.axcompiler.ir import Graph, fields
from axforge.axcompiler.optimize.graph_edit import GraphPass, result, without_unused
from axforge.axcompiler.passes import PassResult


@dataclass(frozen=True)
class MergeConstants(GraphPass):
    """Keep constants with the same content once.

    Conv (weight a)                                Conv (weight a)
    Conv (weight b, equal to a)      becomes       Conv (weight a)

    Constant operands stay apart, because each has a scale of its own.
    """

    at: ClassVar[tuple[int, ...]] = (900,)

    def apply(self, graph: Graph) -> PassResult[Graph]:
        """Rewrite the graph once."""
        first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        renamed: dict[str, str] = {}
        for name, value in graph.constants.items():
            if name not in graph.tensors:
                renamed[name] = first.setdefault((value.dtype.name, value.shape, value.tobytes()), name)
        return result(graph, without_unused(replace(graph, ops=tuple(fields.renamed(op, renamed) for op in graph.ops))))
