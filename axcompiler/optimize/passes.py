"""Rewrites of the fused graph. Each is a function Graph -> Graph that leaves what the graph computes as it is, bit for bit."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.ir import AnyOp, Graph
from axforge.axcompiler.lowering import tables

Pass = Callable[[Graph], Graph]


def _users(graph: Graph) -> dict[str, list[AnyOp]]:
    users: dict[str, list[AnyOp]] = {}
    for op in graph.ops:
        for name in dict.fromkeys(op.inputs):
            users.setdefault(name, []).append(op)
    return users


def _makers(graph: Graph) -> dict[str, AnyOp]:
    return {name: op for op in graph.ops for name in op.outputs}


def _only_user(graph: Graph, users: Mapping[str, list[AnyOp]], name: str) -> AnyOp | None:
    found = users.get(name, [])
    return found[0] if len(found) == 1 and name not in graph.outputs else None


def add_constant(graph: Graph, added: dict[str, Any], value: Any, hint: str) -> str:
    """Name of a constant with this content, new or old."""
    for name, old in (*graph.constants.items(), *added.items()):
        if name not in graph.tensors and old.dtype == value.dtype and old.shape == value.shape and np.array_equal(old, value):
            return name
    name = f"{hint}.p{len(graph.constants) + len(added)}"
    while name in graph.constants or name in graph.tensors or name in added:
        name += "_"
    added[name] = value
    return name


def drop_identities(graph: Graph) -> Graph:
    """x ── Reshape (same shape) ── y ── op      becomes      x ── op

    Likewise a Transpose that keeps the order, a Slice or Take of everything, a Broadcast to the same shape, an identity table.
    """
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
    return drop_unused(replace(graph, ops=tuple(ops)))


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


def join_shapes(graph: Graph) -> Graph:
    """x ── Reshape ── y ── Reshape ── z      becomes      x ── Reshape ── z        (and so two Transposes)"""
    makers, ops = _makers(graph), []
    for op in graph.ops:
        before = makers.get(op.inputs[0]) if len(op.inputs) == 1 else None
        if isinstance(op, ir.Reshape) and isinstance(before, ir.Reshape):
            op = msgspec.structs.replace(op, inputs=before.inputs, origin=(*before.origin, *op.origin))
        elif isinstance(op, ir.Transpose) and isinstance(before, ir.Transpose):
            perm = tuple(before.perm[p] for p in op.perm)
            op = msgspec.structs.replace(op, inputs=before.inputs, perm=perm, origin=(*before.origin, *op.origin))
        makers.update(dict.fromkeys(op.outputs, op))
        ops.append(op)
    return drop_unused(replace(graph, ops=tuple(ops)))


def fuse_tables(graph: Graph) -> Graph:
    """x ── Conv ── y ── Table ── z      becomes      x ── Conv with the table in its epilogue ── z

    for any operator with an epilogue, and for a table after a table, where nobody else reads y.
    """
    makers, users = _makers(graph), _users(graph)
    added: dict[str, Any] = {}
    gone: set[str] = set()
    changed: dict[str, AnyOp] = {}
    for op in graph.ops:
        if not isinstance(op, ir.Table) or _only_user(graph, users, op.inputs[0]) is not op:
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
    return drop_unused(replace(graph, ops=ops, constants={**graph.constants, **added}))


def _with_table(graph: Graph, added: dict[str, Any], maker: AnyOp, op: ir.Table) -> AnyOp | None:
    values: Mapping[str, Any] = {**graph.constants, **added}
    if isinstance(maker, ir.Table):
        table = add_constant(graph, added, tables.compose(values[maker.table], values[op.table]), "table")
        return msgspec.structs.replace(maker, outputs=op.outputs, table=table, origin=(*maker.origin, *op.origin))
    epilogue = getattr(maker, "epilogue", None)
    if epilogue is None:
        return None
    table = op.table
    if epilogue.table is not None:
        table = add_constant(graph, added, tables.compose(values[epilogue.table], values[op.table]), "table")
    after: Any = maker
    return msgspec.structs.replace(
        after, outputs=op.outputs, epilogue=msgspec.structs.replace(epilogue, table=table), origin=(*maker.origin, *op.origin)
    )


def fuse_tables_into_concat(graph: Graph) -> Graph:
    """x ── Table ── y ── Concat      becomes      x ── Concat with the table at that operand"""
    makers, users = _makers(graph), _users(graph)
    added: dict[str, Any] = {}
    ops: list[AnyOp] = []
    for op in graph.ops:
        if isinstance(op, ir.Concat):
            inputs, slots = list(op.inputs), list(op.tables)
            for i, name in enumerate(op.inputs):
                maker = makers.get(name)
                if isinstance(maker, ir.Table) and _only_user(graph, users, name) is not None and op.inputs.count(name) == 1:
                    inputs[i], slots[i] = maker.inputs[0], _joined(graph, added, maker.table, slots[i])
            op = msgspec.structs.replace(op, inputs=tuple(inputs), tables=tuple(slots))
        ops.append(op)
    return drop_unused(replace(graph, ops=tuple(ops), constants={**graph.constants, **added}))


def _joined(graph: Graph, added: dict[str, Any], first: str, second: str | None) -> str:
    if second is None:
        return first
    values: Mapping[str, Any] = {**graph.constants, **added}
    return add_constant(graph, added, tables.compose(values[first], values[second]), "table")


def fuse_padding(graph: Graph) -> Graph:
    """x ── Pad (with the zero point) ── y ── Conv      becomes      x ── Conv with larger pads

    Likewise before MaxPool, where the padding is -128.
    """
    makers, users = _makers(graph), _users(graph)
    ops: list[AnyOp] = []
    for op in graph.ops:
        pad = makers.get(op.inputs[0]) if op.inputs else None
        if isinstance(op, ir.Conv | ir.MaxPool) and isinstance(pad, ir.Pad) and _only_user(graph, users, op.inputs[0]) is op:
            quant = graph.tensors[op.inputs[0]].quant
            neutral = -128 if isinstance(op, ir.MaxPool) else quant.zero_point if quant else None
            if pad.value == neutral and len(pad.before) == 4 and not any((*pad.before[:2], *pad.after[:2])):
                grown = (*pad.before[2:], *pad.after[2:])
                pads = tuple(a + b for a, b in zip(op.pads, grown, strict=True))
                any_op: Any = op
                op = msgspec.structs.replace(any_op, inputs=pad.inputs, pads=pads, origin=(*pad.origin, *op.origin))
        ops.append(op)
    return drop_unused(replace(graph, ops=tuple(ops)))


def merge_constants(graph: Graph) -> Graph:
    """Two constants with the same content become one (constant operands keep their own, they carry a scale)."""
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    renamed: dict[str, str] = {}
    for name, value in graph.constants.items():
        if name not in graph.tensors:
            renamed[name] = first.setdefault((value.dtype.name, value.shape, value.tobytes()), name)
    return drop_unused(replace(graph, ops=tuple(_renamed(op, renamed) for op in graph.ops)))


CONSTANT_FIELDS = ("weight", "bias", "multiplier", "table", "index_h", "index_w", "weight_h", "weight_w", "index", "exponent")


def _renamed(op: AnyOp, names: Mapping[str, str]) -> AnyOp:
    change: dict[str, Any] = {f: names[v] for f in CONSTANT_FIELDS if isinstance(v := getattr(op, f, None), str)}
    epilogue = getattr(op, "epilogue", None)
    if epilogue is not None and epilogue.table is not None:
        change["epilogue"] = msgspec.structs.replace(epilogue, table=names[epilogue.table])
    if isinstance(op, ir.Concat):
        change["tables"] = tuple(t if t is None else names[t] for t in op.tables)
    return msgspec.structs.replace(op, **change) if change else op


def constants_used(op: AnyOp) -> set[str]:
    """Names of the constants an operator refers to, constant operands aside."""
    found = {v for f in CONSTANT_FIELDS if isinstance(v := getattr(op, f, None), str)}
    epilogue = getattr(op, "epilogue", None)
    if epilogue is not None and epilogue.table is not None:
        found.add(epilogue.table)
    if isinstance(op, ir.Concat):
        found |= {t for t in op.tables if t is not None}
    return found


def drop_unused(graph: Graph) -> Graph:
    """Operators whose results nobody reads, and tensors, constants and islands that nothing refers to, are left out."""
    needed = set(graph.outputs)
    kept: list[AnyOp] = []
    for op in reversed(graph.ops):
        if any(name in needed for name in op.outputs):
            needed.update(op.inputs)
            kept.append(op)
    kept.reverse()
    named = needed | set(graph.inputs) | {name for op in kept for name in op.outputs}
    constants = {name for op in kept for name in constants_used(op)} | named
    islands = {op.island for op in kept if isinstance(op, ir.Island)}
    return replace(
        graph,
        ops=tuple(kept),
        tensors={n: t for n, t in graph.tensors.items() if n in named},
        constants={n: v for n, v in graph.constants.items() if n in constants},
        islands={n: m for n, m in graph.islands.items() if n in islands},
    )
