"""Sums and maxima over axes: each tile holds all that one result needs."""

import math

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.program import Kind
from axforge.axcompiler.strides import dense
from axforge.axcompiler.tile.context import Parameters, TileContext, lowers, output
from axforge.axcompiler.tile.parts import box_of, cut_tiles, ordered_tile, physical, share_axis
from axforge.axcompiler.tile.tiles import Ring, shares
from axforge.axcompiler.tile.views import View


@lowers(ir.ReduceSum, ir.ReduceMax)
def lower_reduce(ctx: TileContext, op: ir.ReduceSum | ir.ReduceMax) -> None:
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
            tile = ordered_tile(ctx, core, tiles, part)
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


def _reduce_parameters(ctx: TileContext, op: ir.ReduceSum, depth: int) -> View | None:
    bias = np.full(1, -ctx.zero(op.inputs[0]) * depth, np.int32)
    return Parameters.pack(ctx, op.epilogue, bias, np.full(1, op.multiplier, np.float32))


def _shared(out: View, source: View, cores: int) -> list[tuple[View, View]]:
    """Each core's part of `out` and, on the same leading axes, of `source`."""
    if not out.shape:
        return [(out, source)]
    axis = share_axis(out.shape, cores)
    return [(out.cut(axis, a, b - a), source.cut(axis, a, b - a)) for a, b in shares(out.shape[axis], cores)]
