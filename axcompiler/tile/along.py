"""Operators that look along axes: sums, maxima, softmax. Each tile holds all that one result needs."""

import math

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.program import Kind
from axforge.axcompiler.strides import dense
from axforge.axcompiler.tile.context import Context, Parameters, output
from axforge.axcompiler.tile.elementwise import box_of, cut_tiles, physical, share_axis
from axforge.axcompiler.tile.tiles import Ring, shares
from axforge.axcompiler.tile.views import View


def lower_reduce(ctx: Context, op: ir.ReduceSum | ir.ReduceMax) -> None:
    """Tiles over the axes that stay; each holds all it reduces."""
    em, x, y = ctx.emitter, ctx.view(op.inputs[0]), ctx.view(output(op))
    if op.keepdims:
        for axis in sorted(op.axes, reverse=True):
            y = y.drop(axis)
    order = physical(x)
    kept, gone = [a for a in order if a not in op.axes], [a for a in order if a in op.axes]
    logical = [a for a in range(len(x.shape)) if a not in op.axes]
    out = y.permute([logical.index(a) for a in kept])
    source = x.permute((*kept, *gone))
    depth = math.prod(source.shape[len(kept) :])
    total = isinstance(op, ir.ReduceSum)
    params_block = _reduce_parameters(ctx, op, depth) if isinstance(op, ir.ReduceSum) else None
    for core, parts in enumerate(_shared(out, source, em.cores)):
        params = Parameters.load(ctx, core, params_block, op.epilogue, 1, 1) if isinstance(op, ir.ReduceSum) else None
        limit = (em.l1_free(core) - 512) // (depth + 5)
        if limit < 1:
            raise em.no_fit(em.l1_capacity - em.l1_free(core) + depth + 512)
        limit = min(limit, parts[0].size)
        tiles, results = Ring(em, core, limit * depth, False), Ring(em, core, limit, False)
        sums = Ring(em, core, limit, False, Kind.INT32) if total else None
        for box in cut_tiles(parts[0].shape, limit):
            part = box_of(parts[1], box)
            tile = _ordered_tile(ctx, core, tiles, part)
            result = results.next(tuple(e - s for s, e in box))
            if sums and params and params.bias and params.multiplier:
                acc = sums.next(result.shape)
                em.op(core, Opcode.REDUCE, acc, tile, axes=len(kept), largest=0)
                row = params.row(ctx, params.bias.broadcast((result.size,)), params.multiplier.broadcast((result.size,)))
                flat = dense(acc.buffer, (result.size,), Kind.INT32)
                em.op(core, Opcode.REQUANT, dense(result.buffer, (result.size,)), flat, epilogue=row)
            else:
                em.op(core, Opcode.REDUCE, result, tile, axes=len(kept), largest=1)
            em.copy(core, box_of(parts[0], box), result)


def _reduce_parameters(ctx: Context, op: ir.ReduceSum, depth: int) -> View | None:
    bias = np.full(1, -ctx.zero(op.inputs[0]) * depth, np.int32)
    return Parameters.pack(ctx, op.epilogue, bias, np.full(1, op.multiplier, np.float32))


def _shared(out: View, source: View, cores: int) -> list[tuple[View, View]]:
    """Each core's part of `out` and, on the same leading axes, of `source`."""
    if not out.shape:
        return [(out, source)]
    axis = share_axis(out.shape, cores)
    return [(out.cut(axis, a, b - a), source.cut(axis, a, b - a)) for a, b in shares(out.shape[axis], cores)]


def _ordered_tile(ctx: Context, core: int, ring: Ring, part: View) -> View:
    """A copy of `part` in L1, laid out in `part`'s own memory order, seen in `part`'s axis order."""
    order = physical(part)
    tile = ring.next(tuple(part.shape[a] for a in order))
    ctx.emitter.copy(core, tile, part.permute(order))
    return tile.permute(tuple(order.index(a) for a in range(len(order))))


def lower_softmax(ctx: Context, op: ir.Softmax) -> None:
    """Tiles over the other axes; each holds the whole axis."""
    em, x, y = ctx.emitter, ctx.view(op.inputs[0]), ctx.view(output(op))
    order = [a for a in physical(y) if a != op.axis]
    source, out = x.permute((*order, op.axis)), y.permute((*order, op.axis))
    depth = source.shape[-1]
    exponents = em.constant(ctx.const(op.exponent))
    block = Parameters.pack(ctx, op.epilogue, None, None)
    for core, (dst, src) in enumerate(shared_leading(out, source, em.cores)):
        table = em.load(core, exponents)
        row = Parameters.load(ctx, core, block, op.epilogue, 0, 0).row(ctx, None, None)
        limit = (em.l1_free(core) - 512) // (2 * depth)
        if limit < 1:
            raise em.no_fit(em.l1_capacity - em.l1_free(core) + 2 * depth + 512)
        limit = min(limit, max(1, dst.size // depth))
        tiles, results = Ring(em, core, limit * depth, False), Ring(em, core, limit * depth, False)
        for box in cut_tiles(dst.shape[:-1], limit):
            tile = _ordered_tile(ctx, core, tiles, box_of(src, box))
            target = box_of(dst, box)
            where = physical(target)
            result = results.next(tuple(target.shape[a] for a in where)).permute(tuple(where.index(a) for a in range(len(where))))
            em.op(core, Opcode.SOFTMAX, result, tile, table, scale=op.multiplier, epilogue=row)
            em.copy(core, target, result)


def shared_leading(out: View, source: View, cores: int) -> list[tuple[View, View]]:
    if len(out.shape) < 2:
        return [(out, source)]
    axis = share_axis(out.shape[:-1], cores)
    return [(out.cut(axis, a, b - a), source.cut(axis, a, b - a)) for a, b in shares(out.shape[axis], cores)]
