"""Operators that change nothing are left out."""

from dataclasses import dataclass, replace
from typing import ClassVar

import msgspec

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph, Op
from axforge.axcompiler.optimize.graph_edit import GraphPass, result, without_unused
from axforge.axcompiler.passes import PassResult


@dataclass(frozen=True)
class DropIdentities(GraphPass):
    """Leave out operators that give what they take.

    x ── Reshape (same shape) ── y ── op      becomes      x ── op

    Likewise a Transpose that keeps the order, a Slice or Take of everything, a Broadcast to the same shape, an identity table.
    """

    at: ClassVar[tuple[int, ...]] = (200, 500)

    def apply(self, graph: Graph) -> PassResult[Graph]:
        """Rewrite the graph once."""
        alias: dict[str, str] = {}
        ops: list[Op] = []
        # an island's operands have the names its model has inside
        fixed = {*graph.outputs, *(n for op in graph.ops if isinstance(op, ir.Island) for n in op.inputs)}
        for op in graph.ops:
            op = msgspec.structs.replace(op, inputs=tuple(alias.get(n, n) for n in op.inputs))
            if op.outputs[0] not in fixed and _is_identity(graph, op):
                alias[op.outputs[0]] = op.inputs[0]
            else:
                ops.append(op)
        return result(graph, without_unused(replace(graph, ops=tuple(ops))))


def _is_identity(graph: Graph, op: Op) -> bool:
    same = len(op.inputs) == 1 and graph.tensors[op.inputs[0]] == graph.tensors[op.outputs[0]]
    return same and op.is_identity(graph)
