"""Tables move into the operator before them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import msgspec

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph, Op, epilogue_of
from axforge.axcompiler.lowering import tables
from axforge.axcompiler.optimize.graph_edit import GraphPass, add_constant, makers_of, only_user, result, users_of, without_unused
from axforge.axcompiler.passes import PassResult


@dataclass(frozen=True)
class FuseTables(GraphPass):
    """Move a table into the epilogue of the operator before it.

    x ── Conv ── y ── Table ── z      becomes      x ── Conv with the table in its epilogue ── z

    for any operator with an epilogue, and for a table after a table, where nothing else reads y.
    """

    at: ClassVar[tuple[int, ...]] = (600,)

    def apply(self, graph: Graph) -> PassResult[Graph]:
        """Rewrite the graph once."""
        makers, users = makers_of(graph), users_of(graph)
        added: dict[str, Any] = {}
        gone: set[str] = set()
        changed: dict[str, Op] = {}
        for op in graph.ops:
            if not isinstance(op, ir.Table) or only_user(graph, users, op.inputs[0]) is not op:
                continue
            maker = makers.get(op.inputs[0])
            if maker is None:
                continue
            maker = changed.get(maker.name, maker)
            fused = _with_table(graph, added, maker, op)
            if fused is not None:
                changed[maker.name] = fused
                makers[op.outputs[0]] = fused
                gone.add(op.name)
        ops = tuple(changed.get(op.name, op) for op in graph.ops if op.name not in gone)
        return result(graph, without_unused(replace(graph, ops=ops, constants={**graph.constants, **added})))


def _with_table(graph: Graph, added: dict[str, Any], maker: Op, op: ir.Table) -> Op | None:
    values: Mapping[str, Any] = {**graph.constants, **added}
    if isinstance(maker, ir.Table):
        table = add_constant(graph, added, tables.compose(values[maker.table], values[op.table]), "table")
        return msgspec.structs.replace(maker, outputs=op.outputs, table=table, origin=(*maker.origin, *op.origin))
    epilogue = epilogue_of(maker)
    if epilogue is None:
        return None
    table = op.table
    if epilogue.table is not None:
        table = add_constant(graph, added, tables.compose(values[epilogue.table], values[op.table]), "table")
    after: Any = maker
    return msgspec.structs.replace(
        after, outputs=op.outputs, epilogue=msgspec.structs.replace(epilogue, table=table), origin=(*maker.origin, *op.origin)
    )
