"""Convolution and matrix product by AVX2 without VNNI: vectors along pixels, one output channel at a time, sums in 16 bits.

`vpmaddubsw` adds two products of unsigned and signed bytes in 16 bits, and saturates. Here all lanes have the same weights, those of one
channel, so it is known when weights are packed which sums cannot saturate, whatever the pixels are: see `emission/windows.py`. As many
products as fit, at most four, are added in 16 bits (a window); `vpmaddwd` by ones then widens the window's sum. The sums of a channel in 32
bits stay in registers meanwhile.

The bytes of a tile's pixels are transposed into a panel first: [region][four bytes of a pixel][pixel][4]. A region is what taps share
that differ by whole pixels: a tap is then a distance in the panel, and a pixel is packed once for all of a kernel's rows and columns. A
panel that the first-level cache does not hold is read in parts, each for all channels of a block.
"""

from collections.abc import Iterator
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axruntime.engines.host.codegen.epilogue import EpilogueParams, Finish, LoadedEpilogue, finish32, load_epilogue, store_part
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, Var
from axforge.axruntime.engines.host.codegen.params import SCRATCH, A, Extent, I, Params, R, Ref, TableRef

#: output channels that are finished together
CHANNELS = 16
#: products (of four bytes each) of the windows of a channel, in the order in which they are added
WINDOWS = (4, 3, 2, 1)
#: most vectors of eight pixels of a tile: sums in 32 bits, the weights of a window and two products fit the registers
MOST_VECTORS = 10
#: bytes of a panel that stay in the first-level cache beside the sums of a block of channels
PART_BYTES = 28 << 10
#: bytes of the panel, and of all that a thread needs: the sums of CHANNELS channels, bytes that nobody reads, the panel
PANEL_BYTES = 240 << 10
_SUMS = CHANNELS * MOST_VECTORS * 32
_PANEL = _SUMS + 64
SCRATCH_BYTES = _PANEL + PANEL_BYTES


#: a vector of sums of one channel, of eight pixels
_SUM = "<8 x i32>"


class PanelSpec(msgspec.Struct, frozen=True):
    """vectors: of eight pixels; few: products of a pixel and region, if there are fewer than eight; whole: the panel is read in one part;
    finish: of the epilogue."""

    vectors: int
    few: int
    whole: bool
    finish: Finish


class PanelParams(Params[A, I, R], frozen=True, kw_only=True):
    """x: the input; sources: int32 byte offsets from there of the pixels of each region's panel, tile after tile.

    regions: int64 [nregions, 4], where a region's sources and its panel begin (in bytes), its pixels for a tile, and where its sources
    end. depth: products of four bytes of a pixel and region. y: the result; targets: int32 byte offset of every pixel of a tile, -1 for
    none. An image has `tiles` tiles. lists: windows, a place in the panel and four weights for each product, in the order in which they
    are used; starts: int64 [nblocks], where those of a block of channels begin; counts: int32 [nblocks, parts, CHANNELS, WINDOWS], the
    number of windows of each size. `nblocks` blocks of CHANNELS channels for `oc`, of which `chunk` are used together.
    """

    family: ClassVar[str] = "panel"
    spec: PanelSpec
    x: A
    sources: A
    regions: A
    nregions: I
    depth: I
    y: A
    targets: A
    images: I
    tiles: I
    in_ns: I
    out_ns: I
    lists: A
    starts: A
    counts: A
    parts: I
    bias: A
    mult: A
    nblocks: I
    chunk: I
    oc: I
    epilogue: EpilogueParams[A, I, R]

    def extents(self: "PanelParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        assert isinstance(self.sources, TableRef)
        assert isinstance(self.targets, TableRef)
        assert isinstance(self.regions, TableRef)
        assert isinstance(self.lists, TableRef)
        ((first, last),), ((_, end),) = self.sources.ranges, self.targets.ranges
        (_, sources) = self.regions.ranges[3]
        images = self.images - 1
        # the bytes of the last product that are past the segment's end meet zero weights
        yield Extent(self.x, first, images * self.in_ns + last + 4 * self.depth - 3, spill=31 if self.spec.few else 3)
        yield Extent(self.y, 0, images * self.out_ns + end + self.oc, writes=True)
        yield Extent(self.sources, 0, sources)
        yield Extent(self.regions, 0, 32 * self.nregions)
        yield Extent(self.targets, 0, 32 * self.spec.vectors * self.tiles)
        yield Extent(self.lists, 0, self.lists.ranges[0][1])
        channels = self.nblocks * CHANNELS
        yield Extent(self.starts, 0, 8 * self.nblocks)
        yield Extent(self.counts, 0, 4 * len(WINDOWS) * self.parts * channels)
        yield Extent(self.bias, 0, 4 * channels)
        yield Extent(self.mult, 0, 4 * channels)
        yield from self.epilogue.extents()


@kernel(PanelParams)
def build(f: Fn, params: PanelParams[Param, Param, Param]) -> None:
    """The kernel; threads share tiles of pixels and chunks of channels."""
    p: PanelParams[Val, Val, Val] = f.values(params)
    k = _PanelKernel(f, p)
    chunks = (p.nblocks + p.chunk - 1) // p.chunk
    count = p.images * p.tiles
    first, last = f.share(chunks * count)
    with f.loop(first, last) as item:
        at, begin = item % count, (item // count) * p.chunk
        image, tile = at // p.tiles, at % p.tiles
        k.pack(f.at(p.x, image * p.in_ns), tile)
        with f.loop(begin, f.min(begin + p.chunk, p.nblocks)) as block:
            k.products(block)
            k.finish(f.at(p.y, image * p.out_ns), tile, block * CHANNELS)


class _PanelKernel:
    def __init__(self, f: Fn, p: PanelParams[Val, Val, Val]) -> None:
        self.f, self.p, self.s = f, p, p.spec
        self.e: LoadedEpilogue = load_epilogue(f, p.epilogue, self.s.finish)
        self.sums = f.at(f.base_at(SCRATCH), f.tid * SCRATCH_BYTES)
        self.nowhere, self.panel = f.at(self.sums, _SUMS), f.at(self.sums, _PANEL)

    def pack(self, x: Val, tile: Val) -> None:
        """Writes the panel of a tile."""
        f, p = self.f, self.p
        with f.loop(0, p.nregions) as r:
            table, base, pixels = (f.load("i64", p.regions, r * 32 + 8 * i, align=8) for i in range(3))
            source = f.at(p.sources, table + tile * (32 * self.s.vectors))
            panel = f.at(self.panel, base)
            with f.loop(0, pixels, 8) as q:
                rows = [f.at(x, f.load("i32", source, (q + i) * 4, align=4).cast("sext", "i64")) for i in range(8)]
                if self.s.few:
                    self._pack8(rows, f.c(0), f.at(panel, q * 4), pixels * 4)
                else:
                    # the last eight products overlap those before them
                    with f.loop(0, p.depth, 8) as d:
                        at = f.min(d, p.depth - 8)
                        self._pack8(rows, at * 4, f.at(panel, at * pixels * 4 + q * 4), pixels * 4)

    def _pack8(self, rows: list[Val], offset: Val, to: Val, step: Val) -> None:
        """Eight (or `few`) times four bytes of eight pixels."""
        f, count = self.f, self.s.few or 8
        for half in range(-(-count // 4)):
            quarters = [f.load("<4 x i32>", row, offset + 16 * half) for row in rows]
            pairs = [f.shuffle(quarters[i], quarters[i + 4], range(8)) for i in range(4)]
            for i, row in enumerate(transpose_lanes(f, pairs)):
                if 4 * half + i < count:
                    f.store(row, to, step * (4 * half + i))

    def products(self, block: Val) -> None:
        """The sums of a block of channels for all pixels of the tile, part after part of the panel."""
        f, p = self.f, self.p
        at = f.var("ptr", f.at(p.lists, f.load("i64", p.starts, block * 8, align=8)))
        bias = f.at(p.bias, block * (4 * CHANNELS))
        steps = f.c(CHANNELS) if self.s.whole else p.parts * CHANNELS
        counts = f.at(p.counts, block * steps * (4 * len(WINDOWS)))
        if not self.s.whole:
            with f.loop(0, CHANNELS) as channel:
                for v, total in enumerate(self._biases(bias, channel)):
                    f.store(total, self._sums_of(channel), 32 * v, align=32)
        with f.loop(0, steps) as i:
            sums = self._sums_of(i if self.s.whole else i % CHANNELS)
            begin = self._biases(bias, i) if self.s.whole else [f.load(_SUM, sums, 32 * v, align=32) for v in range(self.s.vectors)]
            totals = [f.var(_SUM, total) for total in begin]
            for j, size in enumerate(WINDOWS):
                count = f.load("i32", counts, i * (4 * len(WINDOWS)) + 4 * j, align=4).cast("zext", "i64")
                with f.loop(0, count):
                    entry = at.get()
                    self._window(entry, size, totals)
                    at.set(f.at(entry, 8 * size))
            for v, final in enumerate(totals):
                f.store(final.get(), sums, 32 * v, align=32)

    def _sums_of(self, channel: Val) -> Val:
        """Where the sums of a channel of the block are."""
        return self.f.at(self.sums, channel * (32 * self.s.vectors))

    def _biases(self, bias: Val, channel: Val) -> list[Val]:
        """What the sums of a channel begin with."""
        return [self.f.load("i32", bias, channel * 4, align=4).splat(8)] * self.s.vectors

    def _window(self, entry: Val, size: int, totals: list[Var]) -> None:
        """Adds the products of one window to the sums of a channel."""
        f = self.f
        places = [f.at(self.panel, f.load("i32", entry, 8 * i, align=4).cast("zext", "i64")) for i in range(size)]
        weights = [f.load("i32", entry, 8 * i + 4, align=4).splat(8).cast("bitcast", "<32 x i8>") for i in range(size)]
        for v, total in enumerate(totals):
            products = [
                f.call("<16 x i16>", "llvm.x86.avx2.pmadd.ub.sw", f.load("<32 x i8>", x, 32 * v), w)
                for x, w in zip(places, weights, strict=True)
            ]
            words = products[0]
            for product in products[1:]:
                words = words + product
            wide = f.call("<8 x i32>", "llvm.x86.avx2.pmadd.wd", words, f.c(1, "<16 x i16>"))
            total.set(total.get() + wide)

    def finish(self, y: Val, tile: Val, first: Val) -> None:
        """Codes of CHANNELS channels from `first` on: four channels of eight pixels are packed in one vector, then bytes are transposed."""
        f, p, count = self.f, self.p, self.s.vectors
        left = p.oc - first
        whole = left.cmp("sge", CHANNELS)
        targets = f.at(p.targets, tile * (32 * count))
        with f.loop(0, count) as v:
            quads = []
            for quad in range(CHANNELS // 4):
                values = []
                for c in range(4 * quad, 4 * quad + 4):
                    total = f.load("<8 x i32>", self.sums, v * 32 + 32 * count * c, align=32)
                    scale = f.load("float", p.mult, first * 4 + 4 * c, align=4).splat(8)
                    values.append(total.cast("sitofp", "float") * scale)
                code = finish32(f, self.e, values, natural=False)
                by_pixel = f.shuffle(code, code, [16 * lane + 4 * c + i for lane in range(2) for i in range(4) for c in range(4)])
                quads.append(by_pixel.cast("bitcast", "<8 x i32>"))
            rows = transpose_lanes(f, quads)
            halves = [f.shuffle(rows[i % 4], rows[i % 4], range(4 * (i // 4), 4 * (i // 4) + 4)) for i in range(8)]
            pixels = [half.cast("bitcast", "<16 x i8>") for half in halves]
            at = [f.load("i32", targets, v * 32 + 4 * i, align=4).cast("sext", "i64") for i in range(8)]
            to = [f.select(a.cmp("slt", 0), self.nowhere, f.at(y, a + first)) for a in at]
            with f.if_(whole):
                for pixel, ptr in zip(pixels, to, strict=True):
                    f.store(pixel, ptr)
            with f.if_(whole.bits("xor", 1)):
                for pixel, ptr in zip(pixels, to, strict=True):
                    store_part(f, pixel, ptr, left)


def transpose_lanes(f: Fn, rows: list[Val]) -> list[Val]:
    """Four vectors of 8 x int32, in each half of which 4 x 4 elements are transposed."""
    low = [f.shuffle(rows[i], rows[i + 1], [0, 8, 1, 9, 4, 12, 5, 13]) for i in (0, 2)]
    high = [f.shuffle(rows[i], rows[i + 1], [2, 10, 3, 11, 6, 14, 7, 15]) for i in (0, 2)]
    out = []
    for a, b in (low, high):
        out += [f.shuffle(a, b, [0, 1, 8, 9, 4, 5, 12, 13]), f.shuffle(a, b, [2, 3, 10, 11, 6, 7, 14, 15])]
    return out
