"""Two changes of shape in a row become one."""

from dataclasses import dataclass, replace
from typing import ClassVar

import msgspec

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.optimize.graph_edit import GraphPass, makers_of, result, without_unused
from axforge.axcompiler.passes import PassResult


@dataclass(frozen=True)
class JoinShapes(GraphPass):
    """Join two changes of shape in a row.

    x ── Reshape ── y ── Reshape ── z      becomes      x ── Reshape ── z        (and two Transposes likewise)
    """

    at: ClassVar[tuple[int, ...]] = (400,)

    def apply(self, graph: Graph) -> PassResult[Graph]:
        """Rewrite the graph once."""
        makers, ops = makers_of(graph), []
        for op in graph.ops:
            before = makers.get(op.inputs[0]) if len(op.inputs) == 1 else None
            if isinstance(op, ir.Reshape) and isinstance(before, ir.Reshape):
                op = msgspec.structs.replace(op, inputs=before.inputs, origin=(*before.origin, *op.origin))
            elif isinstance(op, ir.Transpose) and isinstance(before, ir.Transpose):
                perm = tuple(before.perm[p] for p in op.perm)
                op = msgspec.structs.replace(op, inputs=before.inputs, perm=perm, origin=(*before.origin, *op.origin))
            makers.update(dict.fromkeys(op.outputs, op))
            ops.append(op)
        return result(graph, without_unused(replace(graph, ops=tuple(ops))))
