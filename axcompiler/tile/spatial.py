"""Operators that look at each channel by itself through a window: tiles of one core, and the pools."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.program import Kind
from axforge.axcompiler.tile.context import Context, Parameters, nhwc, output
from axforge.axcompiler.tile.tiles import Axis, Box, Range, Ring, boxes, core_shares, largest, load_window, pieces, window_view
from axforge.axcompiler.tile.views import View

#: compute(core, box, window tile [., ., C], result [rows, cols, C], int32 sums of the result's shape)
Compute = Callable[[int, Box, View, View, View], None]


@dataclass(frozen=True)
class Part:
    """One core's part of a result [n, rows, cols, channels]."""

    n: int
    rows: Range
    cols: Range
    channels: Range


@dataclass(frozen=True)
class _Size:
    rows: int
    cols: int
    channels: int
    double: bool


def _need(ctx: Context, axes: tuple[Axis, Axis], s: _Size, accumulates: bool) -> int:
    """L1 bytes of a tile."""
    up, area = ctx.emitter.aligned, s.rows * s.cols * s.channels
    tile = up(axes[0].span(s.rows) * axes[1].span(s.cols) * s.channels) + up(area)
    return (tile + (up(area * 4) if accumulates else 0)) * (2 if s.double else 1)


def _choose(ctx: Context, axes: tuple[Axis, Axis], whole: _Size, free: int, accumulates: bool) -> _Size:
    """The largest tile that fits: rows are cut first, then columns, then channels."""

    def fits(r: int, w: int, m: int, double: bool = True) -> bool:
        return _need(ctx, axes, _Size(r, w, m, double), accumulates) <= free

    if fits(whole.rows, whole.cols, whole.channels, False):
        return whole
    if r := largest(whole.rows, lambda r: fits(r, whole.cols, whole.channels)):
        return _Size(r, whole.cols, whole.channels, True)
    if w := largest(whole.cols, lambda w: fits(1, w, whole.channels)):
        return _Size(1, w, whole.channels, True)
    if m := largest(whole.channels, lambda m: fits(1, 1, m)):
        return _Size(1, 1, m, True)
    raise ctx.emitter.no_fit(ctx.emitter.l1_capacity - free + _need(ctx, axes, _Size(1, 1, 1, True), accumulates))


def spatial(
    ctx: Context, op: ir.Op, core: int, axes: tuple[Axis, Axis], part: Part, fill: int, compute: Compute, *, accumulates: bool
) -> None:
    """Tiles of a channel-wise window operator on one core: load the window, `compute`, store."""
    em = ctx.emitter
    height, width, count = (b - a for a, b in (part.rows, part.cols, part.channels))
    size = _choose(ctx, axes, _Size(height, width, count, False), em.l1_free(core), accumulates)
    area = size.rows * size.cols * size.channels
    inputs = Ring(em, core, axes[0].span(size.rows) * axes[1].span(size.cols) * size.channels, size.double)
    outputs = Ring(em, core, area, size.double)
    acc = Ring(em, core, area, size.double, Kind.INT32) if accumulates else None
    x, y = ctx.place(op.inputs[0]), nhwc(ctx.view(output(op)))
    halo = x.halo if fill == ctx.zero(op.inputs[0]) else (0, 0, 0, 0)
    for box in boxes(part.n, part.rows, part.cols, pieces(part.channels, size.channels), (size.rows, size.cols)):
        rows, cols, m = (b - a for a, b in (box.rows, box.cols, box.channels))
        tile = inputs.next((axes[0].span(rows), axes[1].span(cols), m))
        image = nhwc(x.view).cut(0, box.n, 1).drop(0).cut(2, box.channels[0], m)
        load_window(em, core, tile, image, halo, axes, box, fill)
        out = outputs.next((rows, cols, m))
        compute(core, box, tile, out, acc.next((rows, cols, m)) if acc else out)
        target = y.cut(0, box.n, 1).drop(0).cut(0, box.rows[0], rows).cut(1, box.cols[0], cols).cut(2, box.channels[0], m)
        em.copy(core, target, out)


def _axes(ctx: Context, op: ir.MaxPool | ir.AveragePool) -> tuple[Axis, Axis]:
    x, y = ctx.graph.tensors[op.inputs[0]].shape[2:], ctx.graph.tensors[output(op)].shape[2:]
    dilations = op.dilations if isinstance(op, ir.MaxPool) else (1, 1)
    a, b = (Axis(x[i], y[i], op.kernel[i], op.strides[i], dilations[i], op.pads[i]) for i in range(2))
    return a, b


def lower_max_pool(ctx: Context, op: ir.MaxPool) -> None:
    """Windows filled with -128 beyond the border, largest code."""
    axes = _axes(ctx, op)
    n, c, oh, ow = ctx.graph.tensors[output(op)].shape

    def compute(core: int, box: Box, tile: View, out: View, acc: View) -> None:
        window = window_view(tile, axes, out.shape[0], out.shape[1]).permute((0, 1, 4, 2, 3))
        ctx.emitter.op(core, Opcode.REDUCE, out, window, axes=3, largest=1)

    for core, (rows, cols, channels) in enumerate(core_shares(oh, ow, c, ctx.emitter.cores)):
        spatial(ctx, op, core, axes, Part(n, rows, cols, channels), -128, compute, accumulates=False)


def lower_average_pool(ctx: Context, op: ir.AveragePool) -> None:
    """Windows filled with the zero point, int32 sum, one multiplier a pixel (it depends on how much of the window is inside)."""
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

        spatial(ctx, op, core, axes, Part(n, rows, cols, channels), zero, compute, accumulates=True)


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
