"""How work is cut: shares for cores, the largest tile that fits, windows over padded images in L1."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from axforge.axcompiler.program import Kind
from axforge.axcompiler.strides import dense
from axforge.axcompiler.tile.emit import ProgramEmitter
from axforge.axcompiler.tile.views import View

Range = tuple[int, int]


def shares(total: int, parts: int, unit: int = 1) -> list[Range]:
    """`total` cut into at most `parts` ranges of nearly equal length, borders on multiples of `unit`; empty ones left out."""
    units = -(-total // unit)
    cuts = [min(total, units * i // parts * unit) for i in range(parts + 1)]
    return [(a, b) for a, b in itertools.pairwise(cuts) if b > a]


def pieces(span: Range, size: int) -> list[Range]:
    """`span` in pieces of nearly equal length, none longer than `size`."""
    start, stop = span
    count = -(-(stop - start) // size)
    return [(start + a, start + b) for a, b in shares(stop - start, count)]


def largest(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest n in 1..limit for which `fits` (which is monotonous) holds; 0 if there is none."""
    lo, hi = 0, limit
    while lo < hi:
        middle = (lo + hi + 1) // 2
        lo, hi = (middle, hi) if fits(middle) else (lo, middle - 1)
    return lo


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a window operator: output o reads virtual inputs o * stride - before + k * dilation, k < kernel.

    The virtual image is the input of `size` elements, `up` apart (1: as it is; more: zeros between, for transposed convolutions).
    """

    size: int
    out: int
    kernel: int
    stride: int
    dilation: int
    before: int
    up: int = 1

    def reach(self, outputs: Range) -> Range:
        """Virtual inputs that these outputs read."""
        a, b = outputs
        return a * self.stride - self.before, (b - 1) * self.stride - self.before + (self.kernel - 1) * self.dilation + 1

    def span(self, count: int) -> int:
        """Virtual inputs that `count` neighbouring outputs read."""
        return (count - 1) * self.stride + (self.kernel - 1) * self.dilation + 1


@dataclass(frozen=True)
class Box:
    """A part of an image that one core makes at once: rows, columns and channels of the result, of image n."""

    n: int
    rows: Range
    cols: Range
    channels: Range


def core_shares(h: int, w: int, channels: int, cores: int, unit: int = 64) -> list[tuple[Range, Range, Range]]:
    """What each core makes of an h x w x channels result: rows, else columns, else channels are shared."""
    if h >= cores:
        return [(r, (0, w), (0, channels)) for r in shares(h, cores)]
    if w >= cores:
        return [((0, h), r, (0, channels)) for r in shares(w, cores)]
    return [((0, h), (0, w), r) for r in shares(channels, cores, unit)]


def boxes(n: int, rows: Range, cols: Range, channels: list[Range], tile: tuple[int, int]) -> Iterator[Box]:
    """All boxes of one core, channels outermost so that weights stay."""
    for m in channels:
        for i in range(n):
            for r in pieces(rows, tile[0]):
                for c in pieces(cols, tile[1]):
                    yield Box(i, r, c, m)


class Ring:
    """One L1 buffer, or two that alternate, so that a copy into one can run while the other is computed with."""

    def __init__(self, emitter: ProgramEmitter, core: int, size: int, double: bool, kind: Kind = Kind.INT8) -> None:
        self._buffers = [emitter.l1(core, (size,), kind) for _ in range(2 if double else 1)]
        self._kind, self._turn = kind, 0

    def next(self, shape: tuple[int, ...]) -> View:
        """The next buffer, as a dense tile of this shape."""
        buffer = self._buffers[self._turn % len(self._buffers)]
        self._turn += 1
        assert math.prod(shape) <= buffer.size
        return dense(buffer.buffer, shape, self._kind)


def load_window(
    emitter: ProgramEmitter,
    core: int,
    tile: View,
    image: View,
    halo: tuple[int, int, int, int],
    axes: tuple[Axis, Axis],
    box: Box,
    fill: int,
) -> None:
    """Fill `tile` [rows, cols, C] with the virtual inputs of `box`: copies of `image` [H, W, C], `fill` beyond its border.

    halo: pixels around the image that hold `fill` already and may be read instead.
    """
    ranges = []
    for axis, outputs, before, after in zip(axes, (box.rows, box.cols), halo[:2], halo[2:], strict=True):
        lo, hi = axis.reach(outputs)
        first, last = (-before, axis.size + after) if axis.up == 1 else (0, axis.size)
        a, b = max(first, -(-lo // axis.up)), min(last, (hi - 1) // axis.up + 1)
        ranges.append((a, max(a, b), a * axis.up - lo, lo, hi))
    (r0, r1, at_row, *_), (c0, c1, at_col, *_) = ranges
    rows, cols, channels = tile.shape
    covered = r1 - r0 == rows and c1 - c0 == cols
    if max(axes[0].up, axes[1].up) > 1 or r1 <= r0 or c1 <= c0:
        if not covered:
            emitter.fill(core, tile, fill)
    else:
        _fill_border(emitter, core, tile, (at_row, at_row + r1 - r0), (at_col, at_col + c1 - c0), fill)
    if r1 > r0 and c1 > c0:
        part = tile.cut(0, at_row, r1 - r0, axes[0].up).cut(1, at_col, c1 - c0, axes[1].up)
        emitter.copy(core, part, image.cut(0, r0, r1 - r0).cut(1, c0, c1 - c0).cut(2, 0, channels))


def _fill_border(emitter: ProgramEmitter, core: int, tile: View, rows: Range, cols: Range, fill: int) -> None:
    height, width, _ = tile.shape
    middle = tile.cut(0, rows[0], rows[1] - rows[0])
    for part in (
        tile.cut(0, 0, rows[0]),
        tile.cut(0, rows[1], height - rows[1]),
        middle.cut(1, 0, cols[0]),
        middle.cut(1, cols[1], width - cols[1]),
    ):
        emitter.fill(core, part, fill)


def window_view(tile: View, axes: tuple[Axis, Axis], rows: int, cols: int) -> View:
    """[rows, cols, KH, KW, C] over a tile [., ., C] made by `load_window`."""
    (y, x), (sy, sx, sc) = axes, tile.strides
    return View(
        tile.buffer,
        tile.offset,
        (rows, cols, y.kernel, x.kernel, tile.shape[2]),
        (sy * y.stride, sx * x.stride, sy * y.dilation, sx * x.dilation, sc),
        tile.kind,
    )
