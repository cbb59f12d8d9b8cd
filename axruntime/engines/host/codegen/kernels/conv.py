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
from axforge.axruntime.engines.host.codegen.epilogue import EpilogueParams, Finish, LoadedEpilogue, finish, load_epilogue, store_part
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, Var, vec
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, Params, R, Ref, TableRef


class ConvSpec(msgspec.Struct, frozen=True):
    """rows: pixels of a tile; vectors: accumulators of a pixel; step: distance of pixels in bytes; unroll: of the loop over groups."""

    rows: int
    vectors: int
    step: int
    unroll: int
    finish: Finish


def lanes_of(isa: Isa) -> int:
    """int32 lanes of the CPU's vectors."""
    return isa.width // 32


class ConvParams(Params[A, I, R], frozen=True, kw_only=True):
    """x: tap 0 of the first output pixel; segs: byte offsets of the `nseg` segments from there, of `glen` groups each.

    in_*, out_*: distances of images, rows and pixels in bytes. An image has `oh` runs of `run` pixels, in `tiles` tiles of `rows`
    pixels; `mtiles` tiles in all. Weights are `nblocks` blocks of `wstep` bytes for `oc` channels, `chunk` blocks are used together.
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
    epilogue: EpilogueParams[A, I, R]

    def extents(self: "ConvParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        pixels = (self.mtiles // (self.oh * self.tiles), self.oh, self.run)
        assert isinstance(self.segs, TableRef)
        ((first, last),) = self.segs.ranges
        low, high = span(pixels, (self.in_ns, self.in_rs, self.in_ps))
        # the bytes of the last group that are past the segment's end meet zero weights
        yield Extent(self.x, low + first, high + last + (self.glen - 1) * isa.group, spill=isa.group - 1)
        yield Extent(self.y, *span((*pixels, self.oc), (self.out_ns, self.out_rs, self.out_ps, 1)), writes=True)
        yield Extent(self.w, 0, self.nblocks * self.wstep)
        channels = self.nblocks * lanes_of(isa) * self.spec.vectors
        yield Extent(self.bias, 0, 4 * channels)
        yield Extent(self.mult, 0, 4 * channels)
        yield Extent(self.segs, 0, 8 * self.nseg)
        yield from self.epilogue.extents()


@kernel(ConvParams)
def build(f: Fn, params: ConvParams[Param, Param, Param]) -> None:
    """The kernel of the paths without tile registers."""
    p: ConvParams[Val, Val, Val] = f.values(params)
    k = _VectorKernel(f, p)
    chunks = (p.nblocks + p.chunk - 1) // p.chunk
    first, last = f.share(chunks * p.mtiles)
    with f.loop(first, last) as item:
        x, y = _tile_address(f, p, item % p.mtiles)
        begin = (item // p.mtiles) * p.chunk
        with f.loop(begin, f.min(begin + p.chunk, p.nblocks)) as nb:
            k.block(x, y, nb)


def _tile_address(f: Fn, p: ConvParams[Val, Val, Val], m: Val) -> tuple[Val, Val]:
    """Addresses of the first input byte and of the first output pixel of tile m."""
    run, tile = m // p.tiles, m % p.tiles
    start = f.min(tile * p.rows, p.run - p.rows)
    image, row = run // p.oh, run % p.oh
    x = f.at(p.x, image * p.in_ns + row * p.in_rs + start * p.in_ps)
    y = f.at(p.y, image * p.out_ns + row * p.out_rs + start * p.out_ps)
    return x, y


class _VectorKernel:
    def __init__(self, f: Fn, p: ConvParams[Val, Val, Val]) -> None:
        self.f, self.p, self.s, self.isa = f, p, p.spec, f.isa
        self.lanes = lanes_of(f.isa)
        self.width = self.lanes * self.s.vectors
        self.e: LoadedEpilogue = load_epilogue(f, p.epilogue, self.s.finish)

    def block(self, x: Val, y: Val, nb: Val) -> None:
        """One tile of pixels times one block of channels."""
        f, s = self.f, self.s
        n0 = nb * self.width
        ty = vec(self.lanes, "i32")
        start = [f.load(ty, self.p.bias, n0 * 4 + 4 * v * self.lanes) for v in range(s.vectors)]
        acc = [[f.var(ty, start[v]) for v in range(s.vectors)] for _ in range(s.rows)]
        w = f.var("ptr", f.at(self.p.w, nb * self.p.wstep))
        group_bytes = self.width * self.isa.group * (2 if self.isa.dot == "pair" else 1)
        with f.loop(0, self.p.nseg) as seg:
            px = f.at(x, f.load("i64", self.p.segs, seg * 8, align=8))
            with f.loop(0, self.p.glen, s.unroll) as g:
                pg, pw = f.at(px, g * self.isa.group), w.get()
                for u in range(s.unroll):
                    self._group(f.at(pg, u * self.isa.group), f.at(pw, u * group_bytes), acc)
                w.set(f.at(pw, s.unroll * group_bytes))
        self._store(y, n0, acc)

    def _group(self, x: Val, w: Val, acc: list[list[Var]]) -> None:
        load = {"vnni512": self._dot4, "vnni256": self._dot4, "pair": self._pair, "plain": self._plain}[self.isa.dot]
        load(x, w, acc)

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

    def _store(self, y: Val, n0: Val, acc: list[list[Var]]) -> None:
        f, s = self.f, self.s
        ty = vec(self.lanes, "float")
        mult = [f.load(ty, self.p.mult, n0 * 4 + 4 * v * self.lanes) for v in range(s.vectors)]
        scaled = [row[v].get().cast("sitofp", "float") * mult[v] for row in acc for v in range(s.vectors)]
        codes = finish(f, self.e, scaled)
        for r in range(s.rows):
            for v in range(s.vectors):
                at = f.at(y, self.p.out_ps * r + n0 + v * self.lanes)
                store_channels(f, codes[r * s.vectors + v], at, self.p.oc - n0 - v * self.lanes)


def store_channels(f: Fn, code: Val, ptr: Val, left: Val) -> None:
    """Stores a vector of channels of which only `left` exist."""
    if f.isa.avx512:
        store_part(f, code, ptr, left)
        return
    with f.if_(left.cmp("sgt", 0)):
        store_part(f, code, ptr, left)
