"""Depthwise convolution, 64 channels at a time, for AVX-512 VNNI.

Four taps of 64 bytes are unpacked so that the four products of a channel are together, which vpdpbusd sums. Unpacking leaves
channels in an order that the packing of the epilogue undoes; weights, bias and multipliers are stored in that order, once for each
channel a vector may start at.
"""

from collections.abc import Iterator
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axcompiler.strides import span
from axforge.axruntime.engines.host.codegen.epilogue import EpilogueParams, Finish, LoadedEpilogue, finish64, load_epilogue, store_part
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, Params, R, Ref, TableRef


class DepthwiseSpec(msgspec.Struct, frozen=True):
    """groups: of four taps; lines: output rows that share the unpacked bytes (with weights of their own); finish: of the epilogue.
    short: fewer than 64 bytes are stored at a time."""

    groups: int
    lines: int
    finish: Finish
    short: bool


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
        s = self.spec
        assert isinstance(self.taps, TableRef)
        assert isinstance(self.starts, TableRef)
        ((near, far),), ((first, last), (_, phase)) = self.taps.ranges, self.starts.ranges
        useful = min(self.bytes, 64)
        # the taps reach the rows of all lines of a strip
        low, high = span((self.images, self.oh - s.lines + 1, self.pixels), (self.in_ns, self.in_rs, self.in_ps), useful)
        yield Extent(self.x, low + first + near, high + last + far, spill=64 - useful)
        low, high = span((self.images, self.oh, self.pixels), (self.out_ns, self.out_rs, self.out_ps), useful)
        yield Extent(self.y, low + first, high + last, writes=True)
        yield Extent(self.k, 0, phase + 256 * s.groups * s.lines + 512)
        yield Extent(self.taps, 0, 8 * 4 * s.groups)
        yield Extent(self.starts, 0, 16 * self.blocks)
        yield from self.epilogue.extents()


@kernel(DepthwiseParams)
def build(f: Fn, params: DepthwiseParams[Param, Param, Param]) -> None:
    """The kernel; threads share rows."""
    p: DepthwiseParams[Val, Val, Val] = f.values(params)
    s = p.spec
    e = load_epilogue(f, p.epilogue, s.finish)
    offsets = [f.load("i64", p.taps, 8 * t) for t in range(4 * s.groups)]
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
    """64 codes of each line."""
    tail = 256 * s.groups * s.lines
    acc = [[f.load("<16 x i32>", k, tail + 64 * v) for v in range(4)] for _ in range(s.lines)]
    for g in range(s.groups):
        a, b, c, d = (f.load("<64 x i8>", x, offsets[4 * g + t]) for t in range(4))
        for v, bytes4 in enumerate(unpack4(f, a, b, c, d)):
            for line in range(s.lines):
                w = f.load("<64 x i8>", k, 256 * (g * s.lines + line) + 64 * v)
                acc[line][v] = f.call("<16 x i32>", "llvm.x86.avx512.vpdpbusd.512", acc[line][v], bytes4, w)
    scale = [f.load("<16 x float>", k, tail + 256 + 64 * v) for v in range(4)]
    return [finish64(f, e, [row[v].cast("sitofp", "float") * scale[v] for v in range(4)], natural=False) for row in acc]


def unpack4(f: Fn, a: Val, b: Val, c: Val, d: Val) -> list[Val]:
    """Four vectors of 64 bytes -> four of 16 groups (a, b, c, d), byte by byte within 16-byte lanes (punpck)."""

    def interleave(u: Val, v: Val, size: int, high: int) -> Val:
        per = 16 // size
        index = []
        for lane in range(4):
            for i in range(per // 2):
                at = lane * per + high * per // 2 + i
                for source in (0, 64):
                    index += [source + at * size + byte for byte in range(size)]
        return f.shuffle(u, v, index)

    low, high = ([interleave(u, v, 1, h) for u, v in ((a, b), (c, d))] for h in (0, 1))
    return [interleave(pair[0], pair[1], 2, h) for pair in (low, high) for h in (0, 1)]
