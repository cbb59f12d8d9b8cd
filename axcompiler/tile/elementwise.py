"""Operators on the vector unit that go element by element, and how boxes of any rank are shared and cut."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.strides import coalesce
from axforge.axcompiler.tile.context import Context, Parameters, output
from axforge.axcompiler.tile.tiles import Range, Ring, pieces, shares
from axforge.axcompiler.tile.views import View


def physical(view: View) -> tuple[int, ...]:
    """Axes from the longest stride to the shortest: the order in which the tensor lies in memory."""
    return tuple(sorted(range(len(view.shape)), key=lambda a: (-view.strides[a], a)))


def cut_tiles(shape: Sequence[int], limit: int) -> list[tuple[Range, ...]]:
    """A box of this shape in parts of at most `limit` elements: leading axes one by one, one axis in pieces, the rest whole."""
    inner, axis = 1, len(shape)
    while axis > 0 and inner * shape[axis - 1] <= limit:
        axis -= 1
        inner *= shape[axis]
    full: list[list[Range]] = [[(0, d)] for d in shape]
    if axis > 0:
        full[axis - 1] = pieces((0, shape[axis - 1]), max(1, limit // inner))
        for a in range(axis - 1):
            full[a] = [(i, i + 1) for i in range(shape[a])]
    out: list[tuple[Range, ...]] = [()]
    for ranges in full:
        out = [(*head, r) for head in out for r in ranges]
    return out


def share_axis(shape: Sequence[int], cores: int) -> int:
    """The first axis that is long enough for every core to have a part; else the longest."""
    for axis, size in enumerate(shape):
        if size >= cores:
            return axis
    return int(np.argmax(shape)) if shape else 0


def box_of(view: View, box: Sequence[Range]) -> View:
    """The part of `view` inside `box`."""
    for axis, (a, b) in enumerate(box):
        view = view.cut(axis, a, b - a)
    return view


def parts_of(views: list[View], cores: int) -> list[list[View]]:
    """The views (of one shape) of each core."""
    if not views[0].shape:
        return [views]
    axis = share_axis(views[0].shape, cores)
    return [[v.cut(axis, a, b - a) for v in views] for a, b in shares(views[0].shape[axis], cores)]


def lower_pointwise(ctx: Context, op: ir.Add | ir.Mul) -> None:
    """a and b broadcast to the result; tiles in the result's memory order."""
    em, out = ctx.emitter, ctx.view(output(op))
    order = physical(out)
    a, b = (ctx.view(n).broadcast(out.shape) for n in op.inputs)
    views = coalesce([v.permute(order) for v in (out, a, b)])
    block = Parameters.pack(ctx, op.epilogue, None, None)
    for core, (y, *operands) in enumerate(parts_of(views, em.cores)):
        params = Parameters.load(ctx, core, block, op.epilogue, 0, 0)
        row = params.row(ctx, None, None)
        limit = em.l1_free(core) // 6 - 64
        if limit < 1:
            raise em.no_fit(em.l1_capacity)
        limit = min(limit, y.size)
        rings = [Ring(em, core, limit, True) for _ in range(3)]
        for box in cut_tiles(y.shape, limit):
            tiles = []
            for ring, view in zip(rings[1:], operands, strict=True):
                part = box_of(view, box)
                slim = replace(part, shape=tuple(1 if s == 0 else d for d, s in zip(part.shape, part.strides, strict=True)))
                tile = ring.next(slim.shape)
                em.copy(core, tile, slim)
                tiles.append(tile.broadcast(part.shape))
            result = rings[0].next(tuple(e - s for s, e in box))
            codes, left, right = coalesce([result, *tiles])
            _emit(ctx, op, core, (codes, left, right), row)
            em.copy(core, box_of(y, box), result)


def _emit(ctx: Context, op: ir.Add | ir.Mul, core: int, operands: tuple[View, View, View], epilogue: int) -> None:
    zero_a, zero_b = (ctx.zero(n) for n in op.inputs)
    if isinstance(op, ir.Add):
        scale_a, scale_b = op.multipliers
        ctx.emitter.op(core, Opcode.ADD, *operands, zero_a=zero_a, zero_b=zero_b, scale_a=scale_a, scale_b=scale_b, epilogue=epilogue)
    else:
        ctx.emitter.op(core, Opcode.MUL, *operands, zero_a=zero_a, zero_b=zero_b, scale=op.multiplier, epilogue=epilogue)


def table_copy(ctx: Context, out: View, a: View, table: str, users: int = 1) -> None:
    """out = table[a + 128], through L1, shared by all cores. users: how many such copies have to share what is free of L1."""
    em, order = ctx.emitter, physical(out)
    block = em.constant(ctx.const(table))
    for core, (y, x) in enumerate(parts_of(coalesce([out.permute(order), a.permute(order)]), em.cores)):
        entries = em.load(core, block)
        limit = em.l1_free(core) // users // 4 - 128
        if limit < 1:
            raise em.no_fit(em.l1_capacity)
        limit = min(limit, y.size)
        sources, results = Ring(em, core, limit, True), Ring(em, core, limit, True)
        for box in cut_tiles(y.shape, limit):
            shape = tuple(e - s for s, e in box)
            tile, result = sources.next(shape), results.next(shape)
            em.copy(core, tile, box_of(x, box))
            codes, source = coalesce([result, tile])
            em.op(core, Opcode.TABLE, codes, source, entries)
            em.copy(core, box_of(y, box), result)


def lower_table(ctx: Context, op: ir.Table) -> None:
    """A table over a whole tensor."""
    table_copy(ctx, ctx.view(output(op)), ctx.view(op.inputs[0]), op.table)
