"""Tables move into the concatenation after them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import msgspec

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph, Op
from axforge.axcompiler.lowering import tables
from axforge.axcompiler.optimize.graph_edit import GraphPass, add_constant, makers_of, only_user, result, users_of, without_unused
from axforge.axcompiler.passes import PassResult


@dataclass(frozen=True)
class FuseTablesIntoConcat(GraphPass):
    """Move a table into the concatenation after it.

    x ── Table ── y ── Concat      becomes      x ── Concat with the table at that operand
    """

    at: ClassVar[tuple[int, ...]] = (700,)

    def apply(self, graph: Graph) -> PassResult[Graph]:
        """Rewrite the graph once."""
        makers, users = makers_of(graph), users_of(graph)
        added: dict[str, Any] = {}
        ops: list[Op] = []
        for op in graph.ops:
            if isinstance(op, ir.Concat):
                inputs, slots = list(op.inputs), list(op.tables)
                for i, name in enumerate(op.inputs):
                    maker = makers.get(name)
                    if isinstance(maker, ir.Table) and only_user(graph, users, name) is not None and op.inputs.count(name) == 1:
                        inputs[i], slots[i] = maker.inputs[0], _joined(graph, added, maker.table, slots[i])
                op = msgspec.structs.replace(op, inputs=tuple(inputs), tables=tuple(slots))
            ops.append(op)
        return result(graph, without_unused(replace(graph, ops=tuple(ops), constants={**graph.constants, **added})))


def _joined(graph: Graph, added: dict[str, Any], first: str, second: str | None) -> str:
    if second is None:
        return first
    values: Mapping[str, Any] = {**graph.constants, **added}
    return add_constant(graph, added, tables.compose(values[first], values[second]), "table")
