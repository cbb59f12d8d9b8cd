"""Pooling over windows."""

import math

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.tile.context import Parameters, TileContext, lowers, output
from axforge.axcompiler.tile.tiles import Axis, Box, core_shares, window_view
from axforge.axcompiler.tile.views import View
from axforge.axcompiler.tile.windows import CoreShare, channelwise_tiles


def _axes(ctx: TileContext, op: ir.MaxPool | ir.AveragePool) -> tuple[Axis, Axis]:
    x, y = ctx.graph.tensors[op.inputs[0]].shape[2:], ctx.graph.tensors[output(op)].shape[2:]
    dilations = op.dilations if isinstance(op, ir.MaxPool) else (1, 1)
    a, b = (Axis(x[i], y[i], op.kernel[i], op.strides[i], dilations[i], op.pads[i]) for i in range(2))
    return a, b


@lowers(ir.MaxPool)
def lower_max_pool(ctx: TileContext, op: ir.MaxPool) -> None:
    """Windows filled with -128 beyond the border, largest code."""
    axes = _axes(ctx, op)
    n, c, oh, ow = ctx.graph.tensors[output(op)].shape

    def compute(core: int, box: Box, tile: View, out: View, acc: View) -> None:
        window = window_view(tile, axes, out.shape[0], out.shape[1]).permute((0, 1, 4, 2, 3))
        ctx.emitter.op(core, Opcode.REDUCE, out, window, axes=3, largest=1)

    for core, (rows, cols, channels) in enumerate(core_shares(oh, ow, c, ctx.emitter.cores)):
        channelwise_tiles(ctx, op, core, axes, CoreShare(n, rows, cols, channels), -128, compute, accumulates=False)


@lowers(ir.AveragePool)
def lower_average_pool(ctx: TileContext, op: ir.AveragePool) -> None:
    """Windows filled with the zero point, int32 sum, one multiplier for each pixel (it depends on how much of the window is inside)."""
    axes, zero = _axes(ctx, op), ctx.zero(op.inputs[0])
    n, c, oh, ow = ctx.graph.tensors[output(op)].shape
    plane = _multipliers(axes, ctx.const(op.multiplier))
    bias = np.full(1, -zero * op.kernel[0] * op.kernel[1], np.int32)
    block = Parameters.pack(ctx, op.epilogue, bias, plane)
    for core, (rows, cols, channels) in enumerate(core_shares(oh, ow, c, ctx.emitter.cores)):
        params = Parameters.load(ctx, core, block, op.epilogue, 1, plane.size)

        def compute(core: int, box: Box, tile: View, out: View, acc: View, params: Parameters = params) -> None:
            window = window_view(tile, axes, out.shape[0], out.shape[1]).permute((0, 1, 4, 2, 3))
            ctx.emitter.op(core, Opcode.REDUCE, acc, window, axes=3, largest=0)
            assert params.bias
            assert params.multiplier
            mult = params.multiplier.split(0, (oh, ow)) if plane.size > 1 else params.multiplier.insert(0, 1)
            if plane.size > 1:
                mult = mult.cut(0, box.rows[0], out.shape[0]).cut(1, box.cols[0], out.shape[1])
            row = params.row(ctx, params.bias.broadcast(out.shape), mult.insert(2, 1).broadcast(out.shape))
            ctx.emitter.op(core, Opcode.REQUANT, out, acc, epilogue=row)

        channelwise_tiles(ctx, op, core, axes, CoreShare(n, rows, cols, channels), zero, compute, accumulates=True)


def _multipliers(
    axes: tuple[Axis, Axis], table: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The multiplier of every result pixel [OH, OW]; one number if all are the same."""
    counts = []
    for axis in axes:
        start = np.arange(axis.out) * axis.stride - axis.before
        counts.append(np.minimum(start + axis.kernel, axis.size).clip(0) - start.clip(0, axis.size))
    inside = np.maximum(np.outer(*(c.clip(0) for c in counts)), 1)
    plane = table[inside - 1].astype(np.float32)
    return plane.reshape(-1)[:1] if math.prod(plane.shape) and (plane == plane.flat[0]).all() else plane.reshape(-1)
