"""Convolution as an implicit matrix product, blocked in registers: a tile of output pixels times a block of output channels.

A row of the product is one output pixel. Its bytes are gathered from `nseg` segments of the input (one for each kernel row, or for each
kernel tap), each `glen` groups of `isa.group` bytes long; bytes past a segment's end meet zero weights. Pixels of a tile are at a constant
distance, so one base address serves them all. The last tile of a run overlaps the one before it, so there is no remainder code.
"""

from collections.abc import Iterator
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axcompiler.strides import span
from axforge.axruntime.engines.host.codegen.epilogue import (
    EpilogueParams,
    Finish,
    LoadedEpilogue,
    finish,
    join,
    load_epilogue,
    split,
    store_part,
)
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kernels.operands import OwnOperands
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, Var, lanes, vec
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, Params, R, Ref, TableRef

#: vectors of weights that are loaded before they are needed, by the paths of aarch64
_AHEAD = 2


class ConvSpec(msgspec.Struct, frozen=True):
    """rows: pixels of a tile; vectors: of channels; step: distance of pixels in bytes; unroll: of the loop over groups.
    lowest: there are weights of -128, for which two products do not fit 16 bits ('smull')."""

    rows: int
    vectors: int
    step: int
    unroll: int
    finish: Finish
    lowest: bool = False


def lanes_of(isa: Isa) -> int:
    """int32 lanes of the CPU's vectors."""
    return isa.width // 32


class ConvParams(Params[A, I, R], frozen=True, kw_only=True):
    """x: tap 0 of the first output pixel; segs: byte offsets of the `nseg` segments from there, of `glen` groups each.

    in_*, out_*: distances of images, rows and pixels in bytes. An image has `oh` runs of `run` pixels, in `tiles` tiles of `rows`
    pixels; `mtiles` tiles in all. Weights are `nblocks` blocks of `wstep` bytes for `oc` channels, `chunk` blocks are used together.
    images, own: where images have weights of their own, int64 [images, 2], the byte offsets of each image in x and y, and its operands.
    """

    family: ClassVar[str] = "conv"
    spec: ConvSpec
    nseg: I
    glen: I
    oh: I
    in_ns: I
    in_rs: I
    in_ps: I
    out_ns: I
    out_rs: I
    out_ps: I
    run: I
    tiles: I
    rows: I
    mtiles: I
    nblocks: I
    chunk: I
    oc: I
    wstep: I
    x: A
    y: A
    w: A
    bias: A
    mult: A
    segs: A
    images: A | None = None
    own: OwnOperands[A, I, R] | None = None
    epilogue: EpilogueParams[A, I, R]

    def extents(self: "ConvParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        pixels = (self.mtiles // (self.oh * self.tiles), self.oh, self.run)
        assert isinstance(self.segs, TableRef)
        ((first, last),) = self.segs.ranges
        low, high = span(pixels, (self.in_ns, self.in_rs, self.in_ps))
        # the bytes of the last group that are past the segment's end meet zero weights
        (in_first, in_last), (out_first, out_last) = ((0, 0), (0, 0)) if self.images is None else _ranges(self.images)
        x = low + in_first + first, high + in_last + last + (self.glen - 1) * isa.group
        yield Extent(self.x, *x, spill=isa.group - 1)
        low, high = span((*pixels, self.oc), (self.out_ns, self.out_rs, self.out_ps, 1))
        yield Extent(self.y, low + out_first, high + out_last, writes=True)
        channels = self.nblocks * lanes_of(isa) * self.spec.vectors
        weights, biases = (0, 0), (0, 0)
        if self.own is not None and self.images is not None:
            weights, biases, _ = _ranges(self.own.at)
            yield Extent(self.images, 0, 16 * pixels[0])
            yield from self.own.extents(pixels[0], self.run)
        yield Extent(self.w, weights[0], weights[1] + self.nblocks * self.wstep)
        yield Extent(self.bias, biases[0], biases[1] + 4 * channels)
        yield Extent(self.mult, 0, 4 * channels)
        yield Extent(self.segs, 0, 8 * self.nseg)
        yield from self.epilogue.extents()


def _ranges(table: Ref) -> tuple[tuple[int, int], ...]:
    assert isinstance(table, TableRef)
    return table.ranges


class _PixelTile(msgspec.Struct, frozen=True):
    """Addresses of a tile of pixels: its first input byte and first output pixel, its weights, biases and terms (None for none)."""

    x: Val
    y: Val
    w: Val
    bias: Val
    terms: Val | None = None


@kernel(ConvParams)
def build(f: Fn, params: ConvParams[Param, Param, Param]) -> None:
    """The kernel of the paths without tile registers."""
    p: ConvParams[Val, Val, Val] = f.values(params)
    k = _VectorKernel(f, p)
    chunks = (p.nblocks + p.chunk - 1) // p.chunk
    first, last = f.share(chunks * p.mtiles)
    with f.loop(first, last) as item:
        tile = _pixel_tile(f, p, item % p.mtiles)
        begin = (item // p.mtiles) * p.chunk
        with f.loop(begin, f.min(begin + p.chunk, p.nblocks)) as nb:
            k.block(tile, nb)


def _pixel_tile(f: Fn, p: ConvParams[Val, Val, Val], m: Val) -> _PixelTile:
    """Tile number m."""
    run, tile = m // p.tiles, m % p.tiles
    start = f.min(tile * p.rows, p.run - p.rows)
    image, row = run // p.oh, run % p.oh
    x = f.at(p.x, image * p.in_ns + row * p.in_rs + start * p.in_ps)
    y = f.at(p.y, image * p.out_ns + row * p.out_rs + start * p.out_ps)
    if p.own is None or p.images is None:
        return _PixelTile(x, y, p.w, p.bias)
    x, y = (f.at(address, f.load("i64", p.images, image * 16 + 8 * i, align=8)) for i, address in enumerate((x, y)))
    w, bias, terms = (f.load("i64", p.own.at, image * 24 + 8 * i, align=8) for i in range(3))
    own = None if p.own.terms is None else f.at(p.own.terms, terms + start * 4)
    return _PixelTile(x, y, f.at(p.w, w), f.at(p.bias, bias), own)


class _VectorKernel:
    def __init__(self, f: Fn, p: ConvParams[Val, Val, Val]) -> None:
        self.f, self.p, self.s, self.isa = f, p, p.spec, f.isa
        self.lanes = lanes_of(f.isa)
        self.width = self.lanes * self.s.vectors
        self.e: LoadedEpilogue = load_epilogue(f, p.epilogue, self.s.finish)

    def block(self, tile: _PixelTile, nb: Val) -> None:
        """One tile of pixels times one block of channels."""
        f, s = self.f, self.s
        n0 = nb * self.width
        ty = vec(self.lanes, "i32")
        start = [f.load(ty, tile.bias, n0 * 4 + 4 * v * self.lanes) for v in range(s.vectors)]
        if self.isa.dot == "smull":
            # parts of the sum of each channel, which are added at the end
            acc = [[f.var(ty, f.c(0, ty)) for _ in range(s.vectors * self.lanes)] for _ in range(s.rows)]
        else:
            acc = [[f.var(ty, start[v]) for v in range(s.vectors)] for _ in range(s.rows)]
        w = f.var("ptr", f.at(tile.w, nb * self.p.wstep))
        group_bytes = self.width * self.isa.group * (2 if self.isa.dot == "pair" else 1)
        with f.loop(0, self.p.nseg) as seg:
            px = f.at(tile.x, f.load("i64", self.p.segs, seg * 8, align=8))
            with f.loop(0, self.p.glen, s.unroll) as g:
                pg, pw = f.at(px, g * self.isa.group), w.get()
                self._groups(pg, pw, acc, group_bytes)
                w.set(f.at(pw, s.unroll * group_bytes))
        sums = [[total.get() for total in row] for row in acc]
        if self.isa.dot == "smull":
            sums = [[self._added(row[i : i + 4]) + start[i // 4] for i in range(0, len(row), 4)] for row in sums]
        if tile.terms is not None:
            terms = [f.load("i32", tile.terms, 4 * r, align=4).splat(self.lanes) for r in range(s.rows)]
            sums = [[total + term for total in row] for row, term in zip(sums, terms, strict=True)]
        self._store(tile.y, n0, sums)

    def _groups(self, x: Val, w: Val, acc: list[list[Var]], group_bytes: int) -> None:
        """`unroll` groups of products."""
        if self.isa.arm:
            (self._sdot if self.isa.dot == "sdot" else self._smull)(x, w, acc)
            return
        product = {"vnni512": self._dot4, "vnni256": self._dot4, "pair": self._pair, "plain": self._plain}[self.isa.dot]
        for u in range(self.s.unroll):
            product(self.f.at(x, u * self.isa.group), self.f.at(w, u * group_bytes), acc)

    def _signed(self, x: Val, row: int) -> Val:
        """The bytes of all groups of a pixel, as signed numbers."""
        size = self.s.unroll * self.isa.group
        return self.f.load(vec(size, "i8"), x, row * self.s.step).bits("xor", -128)

    def _sdot(self, x: Val, w: Val, acc: list[list[Var]]) -> None:
        """sdot by element: four products of signed bytes, where the four activations are one element of a register."""
        f, s = self.f, self.s
        pixels = [self._signed(x, r).cast("bitcast", vec(s.unroll, "i32")) for r in range(s.rows)]
        for i, weights in enumerate(self._ahead(w, "<16 x i8>", s.unroll * s.vectors)):
            u, v = divmod(i, s.vectors)
            for row, pixel in zip(acc, pixels, strict=True):
                four = (f.shuffle(pixel, pixel, [u] * 4) if s.unroll > 1 else pixel.splat(4)).cast("bitcast", "<16 x i8>")
                total = f.call("<4 x i32>", "llvm.aarch64.neon.sdot.v4i32.v16i8", row[v].get(), weights, four)
                row[v].set(f.fixed(total, ordered=True))

    def _ahead(self, w: Val, ty: str, count: int) -> Iterator[Val]:
        """The vectors at w one by one, of which some are loaded before they are needed, and none long before.

        A core that keeps the order of instructions would wait for them; and LLVM, left alone, starts more products than registers hold.
        """
        f, ready, size = self.f, list[Val](), lanes(ty)
        for i in range(count + _AHEAD):
            if i < count:
                ready.append(f.fixed(f.load(ty, w, size * i), ordered=True))
            if i >= _AHEAD:
                yield ready[i - _AHEAD]

    def _smull(self, x: Val, w: Val, acc: list[list[Var]]) -> None:
        """smull and smlal: two products of one channel in each 16-bit lane, which sadalp widens.

        Two products are at most 2 * 127 * 128 = 32512 in magnitude, unless both weights are -128.
        """
        f, s = self.f, self.s
        pixels = [self._signed(x, r) for r in range(s.rows)]
        for channel, both in enumerate(self._ahead(w, vec(8 * s.unroll, "i8"), s.vectors * self.lanes)):
            weights = [half.cast("sext", "i16") for half in split(f, both, s.unroll)]
            for row, pixel in zip(acc, pixels, strict=True):
                products = [part.cast("sext", "i16") * half for part, half in zip(split(f, pixel, s.unroll), weights, strict=True)]
                total = row[channel].get()
                for words in products if s.lowest or s.unroll == 1 else [products[0] + products[1]]:
                    total = total + f.call("<4 x i32>", "llvm.aarch64.neon.saddlp.v4i32.v8i16", words)
                row[channel].set(f.fixed(total, ordered=True))

    def _added(self, parts: list[Val]) -> Val:
        """The sums of the elements of four vectors, in one vector."""
        f = self.f
        low, high = (f.call("<4 x i32>", "llvm.aarch64.neon.addp.v4i32", parts[i], parts[i + 1]) for i in (0, 2))
        return f.call("<4 x i32>", "llvm.aarch64.neon.addp.v4i32", low, high)

    def _dot4(self, x: Val, w: Val, acc: list[list[Var]]) -> None:
        """vpdpbusd: four products of unsigned activations and signed weights, summed exactly in 32 bits."""
        f, ty = self.f, vec(self.lanes, "i32")
        bytes_ty = vec(4 * self.lanes, "i8")
        ws = [f.load(bytes_ty, w, 4 * self.lanes * v) for v in range(self.s.vectors)]
        for r, row in enumerate(acc):
            a = f.load("i32", x, r * self.s.step).splat(self.lanes).cast("bitcast", bytes_ty)
            for v, wv in enumerate(ws):
                row[v].set(f.call(ty, f"llvm.x86.avx512.vpdpbusd.{self.isa.width}", row[v].get(), a, wv))

    def _pair(self, x: Val, w: Val, acc: list[list[Var]]) -> None:
        """vpmaddwd on 16-bit operands: vpmaddubsw would saturate its 16-bit sums.

        Four bytes in every lane are widened to bytes 0 and 2 by a mask, and to 1 and 3 by a shift; weights are packed in that order.
        """
        f, ty = self.f, vec(self.lanes, "i32")
        wide = vec(2 * self.lanes, "i16")
        size = 4 * self.lanes
        ws = [[f.load(wide, w, size * (half * self.s.vectors + v)) for v in range(self.s.vectors)] for half in range(2)]
        for r, row in enumerate(acc):
            four = f.load("i32", x, r * self.s.step).splat(self.lanes)
            even, odd = four.bits("and", 0x00FF00FF).cast("bitcast", wide), four.cast("bitcast", wide).bits("lshr", 8)
            for v in range(self.s.vectors):
                for a, half in ((even, ws[0]), (odd, ws[1])):
                    row[v].set(row[v].get() + f.call(ty, "llvm.x86.avx2.pmadd.wd", a, half[v]))

    def _plain(self, x: Val, w: Val, acc: list[list[Var]]) -> None:
        f = self.f
        ws = [f.load(vec(self.lanes, "i8"), w, self.lanes * v).cast("sext", "i32") for v in range(self.s.vectors)]
        for r, row in enumerate(acc):
            a = f.load("i8", x, r * self.s.step).cast("zext", "i32").splat(self.lanes)
            for v, wv in enumerate(ws):
                row[v].set(row[v].get() + a * wv)

    def _store(self, y: Val, n0: Val, sums: list[list[Val]]) -> None:
        f, s = self.f, self.s
        ty = vec(self.lanes, "float")
        mult = [f.load(ty, self.p.mult, n0 * 4 + 4 * v * self.lanes) for v in range(s.vectors)]
        scaled = [row[v].cast("sitofp", "float") * mult[v] for row in sums for v in range(s.vectors)]
        codes = finish(f, self.e, scaled)
        if self.isa.arm and s.vectors % 2 == 0:
            self._store_wide(y, n0, codes)
            return
        for r in range(s.rows):
            for v in range(s.vectors):
                at = f.at(y, self.p.out_ps * r + n0 + v * self.lanes)
                store_channels(f, codes[r * s.vectors + v], at, self.p.oc - n0 - v * self.lanes)

    def _store_wide(self, y: Val, n0: Val, codes: list[Val]) -> None:
        """Stores the channels of each pixel together, all of a block if there are as many."""
        f, s = self.f, self.s
        for r in range(s.rows):
            code = join(f, codes[r * s.vectors : (r + 1) * s.vectors])
            store_channels(f, code, f.at(y, self.p.out_ps * r + n0), self.p.oc - n0)


def store_channels(f: Fn, code: Val, ptr: Val, left: Val) -> None:
    """Stores a vector of channels of which only `left` exist."""
    if f.isa.avx512:
        store_part(f, code, ptr, left)
        return
    with f.if_(left.cmp("sgt", 0)):
        store_part(f, code, ptr, left)
