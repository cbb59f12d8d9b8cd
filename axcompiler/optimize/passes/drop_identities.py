"""Operators that change nothing are left out."""

from dataclasses import dataclass, replace

import msgspec
import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.ir import AnyOp, Graph
from axforge.axcompiler.lowering import tables
from axforge.axcompiler.optimize.graph_edit import GraphPass, result, without_unused
from axforge.axcompiler.passes import PassResult


@dataclass(frozen=True)
class DropIdentities(GraphPass):
    """Leave out operators that give what they take.

    x ── Reshape (same shape) ── y ── op      becomes      x ── op

    Likewise a Transpose that keeps the order, a Slice or Take of everything, a Broadcast to the same shape, an identity table.
    """

    def apply(self, graph: Graph) -> PassResult[Graph]:
        """Rewrite the graph once."""
        alias: dict[str, str] = {}
        ops: list[AnyOp] = []
        # an island's operands have the names its model has inside
        fixed = {*graph.outputs, *(n for op in graph.ops if isinstance(op, ir.Island) for n in op.inputs)}
        for op in graph.ops:
            op = msgspec.structs.replace(op, inputs=tuple(alias.get(n, n) for n in op.inputs))
            if op.outputs[0] not in fixed and _is_identity(graph, op):
                alias[op.outputs[0]] = op.inputs[0]
            else:
                ops.append(op)
        return result(graph, without_unused(replace(graph, ops=tuple(ops))))


def _is_identity(graph: Graph, op: AnyOp) -> bool:
    if isinstance(op, ir.Island) or len(op.inputs) != 1:
        return False
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    if x != y:
        return False
    match op:
        case ir.Reshape() | ir.Broadcast() | ir.Slice():
            return not isinstance(op, ir.Slice) or set(op.steps) <= {1}
        case ir.Transpose():
            return op.perm == tuple(range(len(op.perm)))
        case ir.Take():
            return bool(np.array_equal(graph.constants[op.index], np.arange(x.shape[op.axis])))
        case ir.Table():
            return bool(np.array_equal(graph.constants[op.table], tables.CODES))
        case _:
            return False
