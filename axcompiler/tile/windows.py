"""Operators that look at each channel by itself through a window: the tiles of one core."""

from collections.abc import Callable
from dataclasses import dataclass

from axforge.axcompiler import ir
from axforge.axcompiler.program import Kind
from axforge.axcompiler.tile.context import TileContext, nhwc, output
from axforge.axcompiler.tile.tiles import Axis, Box, Range, Ring, boxes, largest, load_window, pieces
from axforge.axcompiler.tile.views import View

#: compute(core, box, window tile [., ., C], result [rows, cols, C], int32 sums of the result's shape)
Compute = Callable[[int, Box, View, View, View], None]


@dataclass(frozen=True)
class CoreShare:
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


def _need(ctx: TileContext, axes: tuple[Axis, Axis], s: _Size, accumulates: bool) -> int:
    """L1 bytes of a tile."""
    up, area = ctx.emitter.aligned, s.rows * s.cols * s.channels
    tile = up(axes[0].span(s.rows) * axes[1].span(s.cols) * s.channels) + up(area)
    return (tile + (up(area * 4) if accumulates else 0)) * (2 if s.double else 1)


def _choose(ctx: TileContext, axes: tuple[Axis, Axis], whole: _Size, free: int, accumulates: bool) -> _Size:
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


def channelwise_tiles(
    ctx: TileContext, op: ir.Op, core: int, axes: tuple[Axis, Axis], share: CoreShare, fill: int, compute: Compute, *, accumulates: bool
) -> None:
    """Tiles of a channel-wise window operator on one core: load the window, `compute`, store."""
    em = ctx.emitter
    height, width, count = (b - a for a, b in (share.rows, share.cols, share.channels))
    size = _choose(ctx, axes, _Size(height, width, count, False), em.l1_free(core), accumulates)
    area = size.rows * size.cols * size.channels
    inputs = Ring(em, core, axes[0].span(size.rows) * axes[1].span(size.cols) * size.channels, size.double)
    outputs = Ring(em, core, area, size.double)
    acc = Ring(em, core, area, size.double, Kind.INT32) if accumulates else None
    x, y = ctx.place(op.inputs[0]), nhwc(ctx.view(output(op)))
    halo = x.halo if fill == ctx.zero(op.inputs[0]) else (0, 0, 0, 0)
    for box in boxes(share.n, share.rows, share.cols, pieces(share.channels, size.channels), (size.rows, size.cols)):
        rows, cols, m = (b - a for a, b in (box.rows, box.cols, box.channels))
        tile = inputs.next((axes[0].span(rows), axes[1].span(cols), m))
        image = nhwc(x.view).cut(0, box.n, 1).drop(0).cut(2, box.channels[0], m)
        load_window(em, core, tile, image, halo, axes, box, fill)
        out = outputs.next((rows, cols, m))
        compute(core, box, tile, out, acc.next((rows, cols, m)) if acc else out)
        target = y.cut(0, box.n, 1).drop(0).cut(0, box.rows[0], rows).cut(1, box.cols[0], cols).cut(2, box.channels[0], m)
        em.copy(core, target, out)
