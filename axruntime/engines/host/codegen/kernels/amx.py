"""Convolution in the AMX tile registers: tiles of up to 16 pixels times tiles of 16 channels, 64 products deep in each step.

Tiles 0 to 3 accumulate, 4 and 5 hold pixels (loaded straight from the image, one row for each pixel), 6 and 7 weights. The accumulators
start as the bias, loaded with a row distance of zero. Registers are named explicitly, so LLVM has none to allocate.
"""

from collections.abc import Iterator
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axruntime.engines.host.codegen.epilogue import EpilogueParams, Finish, finish64, load_epilogue, store_part
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kernels.operands import OwnOperands
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val
from axforge.axruntime.engines.host.codegen.params import SCRATCH, A, Extent, I, Params, R, Ref, TableRef

#: steps of 64 products by which weights are fetched ahead of their use, into the first- and the second-level cache
AHEAD, FAR_AHEAD = 2, 12
#: most bytes of a pixel's row that are gathered before the product
MOST_GATHERED = 512
#: blocks that are multiplied before they are finished
SLOTS = 2
#: bytes of scratch a thread needs: four tiles of 16 x 16 int32 for each slot, and 64 gathered rows
SCRATCH_BYTES = 4096 * SLOTS + 64 * MOST_GATHERED + 64


class Gather(msgspec.Struct, frozen=True):
    """Rows of short segments are copied together first: `count` segments of `length` bytes by loads of `width`, rows of `row` bytes."""

    count: int
    length: int
    width: int
    row: int


class AmxSpec(msgspec.Struct, frozen=True):
    """across: channel tiles of a block, 2 (times two pixel tiles) or 1 (times four, which reads weights half as often).

    single: the sum is one step deep (and `across` is 2), so pixels stay in their tiles for all channel blocks.
    scattered: every pixel has an output offset of its own (negative: pixel unused), else they follow each other by `out_ps`.
    gather: how rows are gathered before the product (None: they are not), see `Gather`.
    """

    finish: Finish
    across: int = 2
    single: bool = False
    scattered: bool = False
    gather: Gather | None = None


class AmxParams(Params[A, I, R], frozen=True, kw_only=True):
    """x: tap 0 of the first output pixel; segs: byte offset from there of every step of 64 (of every segment if rows are gathered).

    cfg: the tile configuration; at: int32 offsets into x and y of each of the `mtiles` tiles of `rows` pixels; pixels: of a scattered
    tile, int32 offset into y of each of 16 pixels. in_ps, out_ps: distances of pixels in bytes. Weights are `nblocks` blocks of `wstep`
    bytes for `oc` channels, `chunk` blocks are used together. own: where images have weights of their own; tiles that are computed together
    have the same then.
    """

    family: ClassVar[str] = "amx"
    spec: AmxSpec
    nseg: I
    in_ps: I
    out_ps: I
    rows: I
    mtiles: I
    nblocks: I
    chunk: I
    oc: I
    wstep: I
    x: A
    y: A
    w: A
    at: A
    bias: A
    mult: A
    segs: A
    pixels: A | None = None
    own: OwnOperands[A, I, R] | None = None
    epilogue: EpilogueParams[A, I, R]
    cfg: A

    def extents(self: "AmxParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        assert isinstance(self.at, TableRef)
        assert isinstance(self.segs, TableRef)
        (first, last), (to_first, to_last) = self.at.ranges
        ((near, far),) = self.segs.ranges
        g = self.spec.gather
        useful, loaded = (g.length, g.width) if g else (1, 64)
        yield Extent(self.x, first + near, last + far + (self.rows - 1) * self.in_ps + useful, spill=loaded - useful)
        if self.pixels is not None:
            assert isinstance(self.pixels, TableRef)
            ((to_first, to_last),) = self.pixels.ranges
            yield Extent(self.pixels, 0, 4 * 16 * self.mtiles)
        else:
            to_last += (self.rows - 1) * self.out_ps
        yield Extent(self.y, to_first, to_last + self.oc, writes=True)
        weights, biases = (0, 0), (0, 0)
        if self.own is not None:
            assert isinstance(self.own.at, TableRef)
            weights, biases, _ = self.own.at.ranges
            yield from self.own.extents(self.mtiles, self.rows)
        yield Extent(self.w, weights[0], weights[1] + self.nblocks * self.wstep)
        channels = self.nblocks * 16 * self.spec.across
        yield Extent(self.bias, biases[0], biases[1] + 4 * channels)
        yield Extent(self.mult, 0, 4 * channels)
        yield Extent(self.segs, 0, 8 * (g.count if g else self.nseg))
        yield Extent(self.cfg, 0, 64)
        yield Extent(self.at, 0, 8 * self.mtiles)
        yield from self.epilogue.extents()


@kernel(AmxParams)
def build(f: Fn, params: AmxParams[Param, Param, Param]) -> None:
    """The kernel. Some blocks are multiplied before their sums are finished: every change between tile and vector instructions costs
    about 30 ns, in which nothing overlaps."""
    p: AmxParams[Val, Val, Val] = f.values(params)
    k = _TileKernel(f, p)
    f.call("void", "llvm.x86.ldtilecfg", p.cfg)
    high = 4 // p.spec.across
    pairs = (p.mtiles + high - 1) // high
    chunks = (p.nblocks + p.chunk - 1) // p.chunk
    first, last = f.share(chunks * pairs)
    count = f.var("i64", f.c(0))
    with f.loop(first, last) as item:
        m0 = (item % pairs) * high
        tiles = [f.min(m0 + i, p.mtiles - 1) for i in range(high)]
        xs = k.sources(tiles)
        operands = (p.w, p.bias) if p.own is None else k.own(p.own, m0)
        begin = (item // pairs) * p.chunk
        with f.loop(begin, f.min(begin + p.chunk, p.nblocks)) as nb:
            slot = count.get()
            k.product(xs, nb, operands, f.at(k.scratch, slot * 4096))
            k.note(slot, tiles, nb)
            count.set(slot + 1)
            with f.if_(count.get().cmp("eq", SLOTS)):
                k.finish_all(f.c(SLOTS))
                count.set(f.c(0))
    k.finish_all(count.get())
    f.call("void", "llvm.x86.tilerelease")


class _TileKernel:
    def __init__(self, f: Fn, p: AmxParams[Val, Val, Val]) -> None:
        self.f, self.p, self.s = f, p, p.spec
        self.width = 16 * self.s.across
        self.e = load_epilogue(f, p.epilogue, self.s.finish)
        self.scratch = f.at(f.base_at(SCRATCH), f.tid * SCRATCH_BYTES)
        self.rows = f.at(self.scratch, 4096 * SLOTS)
        self.notes = f.buffer(40 * SLOTS)

    def note(self, slot: Val, tiles: list[Val], nb: Val) -> None:
        """Remembers whose sums are in a slot."""
        for i, value in enumerate((nb, *tiles)):
            self.f.store(value, self.notes, slot * 40 + 8 * i)

    def finish_all(self, count: Val) -> None:
        """Finishes the first `count` slots."""
        f = self.f
        with f.loop(0, count) as slot:
            values = [f.load("i64", self.notes, slot * 40 + 8 * i) for i in range(1 + 4 // self.s.across)]
            self.finish(values[0], values[1:], f.at(self.scratch, slot * 4096))

    def sources(self, tiles: list[Val]) -> list[Val]:
        """Addresses of the first byte of each tile's first row; gathers the rows if that is wanted."""
        f = self.f
        xs = [f.at(self.p.x, f.load("i32", self.p.at, m * 8).cast("sext", "i64")) for m in tiles]
        if self.s.gather is None:
            self._hold(xs, self.p.in_ps)
            return xs
        g = self.s.gather
        offsets = [f.load("i64", self.p.segs, 8 * i) for i in range(g.count)]
        rows = [f.at(self.rows, 16 * g.row * t) for t in range(len(tiles))]
        for x, to in zip(xs, rows, strict=True):
            with f.loop(0, self.p.rows) as r:
                px, py = f.at(x, r * self.p.in_ps), f.at(to, r * g.row)
                for i, offset in enumerate(offsets):
                    f.store(f.load(f"<{g.width} x i8>", px, offset), py, i * g.length)
        self._hold(rows, f.c(g.row))
        return rows

    def _hold(self, xs: list[Val], distance: Val) -> None:
        """A single step keeps its pixels in tiles 4 and 5 for all channel blocks."""
        if self.s.single:
            off = self.f.c(0) if self.s.gather else self.f.load("i64", self.p.segs)
            for i, x in enumerate(xs):
                self._load(4 + i, self.f.at(x, off), distance)

    def own(self, own: OwnOperands[Val, Val, Val], tile: Val) -> tuple[Val, Val]:
        """Addresses of the weights and biases of a tile."""
        f = self.f
        w, bias = (f.load("i64", own.at, tile * 24 + 8 * i, align=8) for i in range(2))
        return f.at(self.p.w, w), f.at(self.p.bias, bias)

    def product(self, xs: list[Val], nb: Val, operands: tuple[Val, Val], scratch: Val) -> None:
        """scratch = bias + pixels times weights. `segs` lists the byte offset of every step of 64."""
        f, p, g, wide = self.f, self.p, self.s.gather, self.s.across
        w, bias = f.at(operands[0], nb * p.wstep), f.at(operands[1], nb * 4 * self.width)
        for t in range(4):
            self._load(t, f.at(bias, 64 * (t % wide)), f.c(0))
        if self.s.single:
            self._step(None, w, f.c(0))
        else:
            distance = f.c(g.row) if g else p.in_ps
            with f.loop(0, g.row // 64 if g else p.nseg) as k:
                off = k * 64 if g else f.load("i64", self.p.segs, k * 8, align=8)
                pw = f.at(w, k * (1024 * wide))
                if not g:
                    self._prefetch(pw, AHEAD, 3)
                    self._prefetch(pw, FAR_AHEAD, 2)
                self._step([f.at(x, off) for x in xs], pw, distance)
        for t in range(4):
            f.call("void", "llvm.x86.tilestored64", f"i8 {t}", f.at(scratch, 1024 * t), f.c(64))

    def _step(self, xs: list[Val] | None, w: Val, distance: Val) -> None:
        """64 products deep; xs: addresses of the pixels, None if they are held."""
        wide = self.s.across
        for n in range(wide):
            self._load(6 + n, self.f.at(w, 1024 * n), self.f.c(64))
        for i in range(4 // wide):
            if xs is not None:
                self._load(4 + i % 2, xs[i], distance)
            for n in range(wide):
                self.f.call("void", "llvm.x86.tdpbusd", f"i8 {i * wide + n}", f"i8 {4 + i % 2}", f"i8 {6 + n}")

    def _prefetch(self, w: Val, steps: int, level: int) -> None:
        """Fetches the weights of one later step, line by line. level: 3 into the first-level cache, 2 into the second."""
        size = 1024 * self.s.across
        for at in range(steps * size, (steps + 1) * size, 64):
            self.f.call("void", "llvm.prefetch.p0", self.f.at(w, at), "i32 0", f"i32 {level}", "i32 1")

    def _load(self, tile: int, at: Val, distance: Val) -> None:
        self.f.call("void", "llvm.x86.tileloadd64", f"i8 {tile}", at, distance)

    def _terms(self, tiles: list[Val]) -> list[Val]:
        """Addresses of the terms of each tile's pixels; none if nothing is added."""
        f, own = self.f, self.p.own
        if own is None or own.terms is None:
            return []
        return [f.at(own.terms, f.load("i64", own.at, m * 24 + 16, align=8)) for m in tiles]

    def finish(self, nb: Val, tiles: list[Val], scratch: Val) -> None:
        """Codes from sums, 64 at a time: two pixels of 32 channels or four of 16."""
        f, p, wide, width = self.f, self.p, self.s.across, self.width
        scales = [f.load("<16 x float>", self.p.mult, nb * 4 * width + 64 * h) for h in range(wide)]
        y = f.at(self.p.y, nb * width)
        ys = [] if self.s.scattered else [f.at(y, f.load("i32", self.p.at, m * 8 + 4).cast("sext", "i64")) for m in tiles]
        terms = self._terms(tiles)
        left = p.oc - nb * width
        with f.loop(0, p.rows) as r:
            acc = [f.load("<16 x i32>", scratch, r * 64 + 1024 * t, align=64) for t in range(4)]
            if terms:
                acc = [total + f.load("i32", terms[t // wide], r * 4, align=4).splat(16) for t, total in enumerate(acc)]
            codes = finish64(f, self.e, [acc[t].cast("sitofp", "float") * scales[t % wide] for t in range(4)])
            for t, m in enumerate(tiles):
                pixel = f.shuffle(codes, codes, range(width * t, width * (t + 1)))
                if p.pixels is not None:
                    off = f.load("i32", p.pixels, (m * 16 + r) * 4).cast("sext", "i64")
                    with f.if_(off.cmp("sge", 0)):
                        store_part(f, pixel, f.at(y, off), left)
                else:
                    store_part(f, pixel, f.at(ys[t], r * p.out_ps), left)
