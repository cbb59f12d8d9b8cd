"""Depthwise convolution, a vector of bytes at a time: 64 channels by AVX-512 VNNI, 32 by AVX-VNNI or AVX2.

Four taps are unpacked so that the four products of a channel are together, which vpdpbusd sums. Without VNNI, two taps are unpacked to
pairs of 16 bits, which vpmaddwd sums. Unpacking leaves channels in an order that the packing of the epilogue undoes; weights, bias and
multipliers are stored in that order, once for each channel a vector may start at.
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
    finish32,
    finish64,
    load_epilogue,
    store_part,
)
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, vec
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, Params, R, Ref, TableRef


class DepthwiseSpec(msgspec.Struct, frozen=True):
    """groups: of `taps_of` taps; lines: output rows that share the unpacked bytes (with weights of their own); finish: of the epilogue.
    short: fewer bytes than a vector has are stored at a time."""

    groups: int
    lines: int
    finish: Finish
    short: bool


def bytes_of(isa: Isa) -> int:
    """Bytes of the CPU's vectors."""
    return isa.width // 8


def taps_of(isa: Isa) -> int:
    """Taps whose products are summed by one instruction."""
    return 2 if isa.dot == "pair" else 4


class DepthwiseParams(Params[A, I, R], frozen=True, kw_only=True):
    """x: tap 0 of the first output pixel; taps: byte offsets from there. k: weights, bias and multipliers of every phase.

    starts: of each of `blocks` vectors of a pixel, its first byte, in x and y, and the offset of its phase in k. in_*, out_*: distances of
    images, rows and pixels in bytes; a pixel of `bytes` bytes may be a whole row of an image, see `pixels`.
    """

    family: ClassVar[str] = "depthwise"
    spec: DepthwiseSpec
    x: A
    y: A
    k: A
    taps: A
    starts: A
    images: I
    oh: I
    pixels: I
    blocks: I
    in_ns: I
    in_rs: I
    in_ps: I
    out_ns: I
    out_rs: I
    out_ps: I
    bytes: I
    epilogue: EpilogueParams[A, I, R]

    def extents(self: "DepthwiseParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        s, width = self.spec, bytes_of(isa)
        assert isinstance(self.taps, TableRef)
        assert isinstance(self.starts, TableRef)
        ((near, far),), ((first, last), (_, phase)) = self.taps.ranges, self.starts.ranges
        useful = min(self.bytes, width)
        # the taps reach the rows of all lines of a strip
        low, high = span((self.images, self.oh - s.lines + 1, self.pixels), (self.in_ns, self.in_rs, self.in_ps), useful)
        yield Extent(self.x, low + first + near, high + last + far, spill=width - useful)
        low, high = span((self.images, self.oh, self.pixels), (self.out_ns, self.out_rs, self.out_ps), useful)
        yield Extent(self.y, low + first, high + last, writes=True)
        yield Extent(self.k, 0, phase + 4 * width * (s.groups * s.lines + 2))
        yield Extent(self.taps, 0, 8 * taps_of(isa) * s.groups)
        yield Extent(self.starts, 0, 16 * self.blocks)
        yield from self.epilogue.extents()


@kernel(DepthwiseParams)
def build(f: Fn, params: DepthwiseParams[Param, Param, Param]) -> None:
    """The kernel; threads share rows."""
    p: DepthwiseParams[Val, Val, Val] = f.values(params)
    s = p.spec
    e = load_epilogue(f, p.epilogue, s.finish)
    offsets = [f.load("i64", p.taps, 8 * t) for t in range(taps_of(f.isa) * s.groups)]
    strips = (p.oh + s.lines - 1) // s.lines
    first, last = f.share(p.images * strips)
    with f.loop(first, last) as item:
        # the last strip of an image overlaps the one before it
        image, oh = item // strips, f.min((item % strips) * s.lines, p.oh - s.lines)
        px = f.at(p.x, image * p.in_ns + oh * p.in_rs)
        py = f.at(p.y, image * p.out_ns + oh * p.out_rs)
        with f.loop(0, p.pixels) as pixel, f.loop(0, p.blocks) as b:
            start, phase = f.load("i64", p.starts, b * 16), f.load("i64", p.starts, b * 16 + 8)
            source, to = f.at(px, pixel * p.in_ps + start), f.at(py, pixel * p.out_ps + start)
            for line, code in enumerate(_block(f, s, e, source, f.at(p.k, phase), offsets)):
                if s.short:
                    store_part(f, code, f.at(to, p.out_rs * line), p.bytes)
                else:
                    f.store(code, to, p.out_rs * line)


def _block(f: Fn, s: DepthwiseSpec, e: LoadedEpilogue, x: Val, k: Val, offsets: list[Val]) -> list[Val]:
    """The codes of a vector of bytes, in each line."""
    width, count = bytes_of(f.isa), taps_of(f.isa)
    sums, real, lane = vec(width // 4, "i32"), vec(width // 4, "float"), vec(width, "i8")
    tail = 4 * width * s.groups * s.lines
    acc = [[f.load(sums, k, tail + width * v) for v in range(4)] for _ in range(s.lines)]
    for g in range(s.groups):
        taps = [f.load(lane, x, offsets[count * g + t]) for t in range(count)]
        for v, together in enumerate(unpack4(f, *taps) if count == 4 else _unpack_pairs(f, *taps)):
            for line in range(s.lines):
                w = f.load(lane, k, 4 * width * (g * s.lines + line) + width * v)
                acc[line][v] = _product(f, acc[line][v], together, w)
    scale = [f.load(real, k, tail + 4 * width + width * v) for v in range(4)]
    finish = finish64 if f.isa.avx512 else finish32
    return [finish(f, e, [row[v].cast("sitofp", "float") * scale[v] for v in range(4)], natural=False) for row in acc]


def _product(f: Fn, acc: Val, together: Val, w: Val) -> Val:
    """acc plus the sums of a vector's groups of products."""
    if f.isa.dot == "pair":
        words = vec(bytes_of(f.isa) // 2, "i16")
        return f.fixed(acc + f.call(acc.ty, "llvm.x86.avx2.pmadd.wd", together.cast("bitcast", words), w.cast("bitcast", words)))
    return f.call(acc.ty, f"llvm.x86.avx512.vpdpbusd.{f.isa.width}", acc, together, w)


def _interleave(f: Fn, u: Val, v: Val, size: int, high: int) -> Val:
    """Elements of `size` bytes of u and v in alternation, from the lower or the higher half of each 16 bytes (punpck)."""
    per, width = 16 // size, bytes_of(f.isa)
    index = []
    for lane in range(width // 16):
        for i in range(per // 2):
            at = lane * per + high * per // 2 + i
            for source in (0, width):
                index += [source + at * size + byte for byte in range(size)]
    return f.shuffle(u, v, index)


def _unpack_pairs(f: Fn, a: Val, b: Val) -> list[Val]:
    """Two vectors of bytes -> four of pairs (a, b) of 16 bits each, byte by byte within 16-byte lanes."""
    zero = f.c(0, a.ty)
    return [_interleave(f, ab, zero, 1, h) for ab in (_interleave(f, a, b, 1, h) for h in (0, 1)) for h in (0, 1)]


def unpack4(f: Fn, a: Val, b: Val, c: Val, d: Val) -> list[Val]:
    """Four vectors of bytes -> four of groups (a, b, c, d), byte by byte within 16-byte lanes."""
    low, high = ([_interleave(f, u, v, 1, h) for u, v in ((a, b), (c, d))] for h in (0, 1))
    return [_interleave(f, pair[0], pair[1], 2, h) for pair in (low, high) for h in (0, 1)]
