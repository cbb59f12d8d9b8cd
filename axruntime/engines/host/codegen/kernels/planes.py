"""Conversions between a caller's images (one plane for each channel) and the engine's (channels next to each other).

Squares of `size` pixels times `size` channels are transposed in registers; images of up to four channels are interleaved instead. The last
square of a row or of the channels overlaps the one before it.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axcompiler.strides import span
from axforge.axruntime.engines.host.codegen.epilogue import EpilogueParams, Finish, join, load_epilogue, requantize
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, vec
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, Params, R, Ref


class PlanesSpec(msgspec.Struct, frozen=True):
    """op: 'quantize', 'dequantize' (float32 planes), 'enter' or 'leave' (int8 planes); size: of a square; few: number of channels if
    they are interleaved, else 0."""

    op: str
    size: int
    few: int = 0

    @property
    def enters(self) -> bool:
        """Whether the image is written."""
        return self.op in ("quantize", "enter")

    @property
    def itemsize(self) -> int:
        """Bytes of an element of the planes."""
        return 4 if self.op in ("quantize", "dequantize") else 1


class PlanesParams(Params[A, I, R], frozen=True, kw_only=True):
    """planes: the caller's array, with p_* bytes from image to image, channel, row; image: the engine's, with i_* for image, row, pixel.

    zero: zero_point + 128, scale: of the tensor, for 'dequantize'; scale, epilogue: for 'quantize'.
    """

    family: ClassVar[str] = "planes"
    spec: PlanesSpec
    planes: A
    image: A
    n: I
    c: I
    h: I
    w: I
    p_ns: I
    p_cs: I
    p_rs: I
    i_ns: I
    i_rs: I
    i_ps: I
    zero: I | None = None
    scale: R | None = None
    epilogue: EpilogueParams[A, I, R] | None = None

    def extents(self: "PlanesParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        s = self.spec
        shape, size = (self.n, self.h, self.w, self.c), s.itemsize
        yield Extent(self.planes, *span(shape, (self.p_ns, self.p_rs, size, self.p_cs), size), writes=not s.enters)
        yield Extent(self.image, *span(shape, (self.i_ns, self.i_rs, self.i_ps, 1)), writes=s.enters)


@kernel(PlanesParams)
def build(f: Fn, params: PlanesParams[Param, Param, Param]) -> None:
    """The kernel; threads share rows of squares."""
    p: PlanesParams[Val, Val, Val] = f.values(params)
    s, k = p.spec, _PlanesKernel(f, p)
    across = (p.w + s.size - 1) // s.size
    down = f.c(1) if s.few else (p.c + s.size - 1) // s.size
    # squares along a row of pixels come first: few planes are written at a time, each in order
    first, last = f.share(p.n * p.h * down * across)
    with f.loop(first, last) as item:
        strip, square = item // across, item % across
        row, block = strip // down, strip % down
        x = f.min(square * s.size, p.w - s.size)
        n, h = row // p.h, row % p.h
        flat = f.at(p.planes, n * p.p_ns + h * p.p_rs + x * s.itemsize)
        px = f.at(p.image, n * p.i_ns + h * p.i_rs + x * p.i_ps)
        if s.few:
            k.interleave(flat, px)
        else:
            c = f.min(block * s.size, p.c - s.size)
            k.square(f.at(flat, c * p.p_cs), f.at(px, c))


class _PlanesKernel:
    def __init__(self, f: Fn, p: PlanesParams[Val, Val, Val]) -> None:
        self.f, self.s, self.p = f, p.spec, p
        self.e = None if p.epilogue is None else load_epilogue(f, p.epilogue, Finish())

    def square(self, planes: Val, image: Val) -> None:
        f, n = self.f, self.s.size
        if self.s.enters:
            rows = transpose(f, [self._read(f.at(planes, self.p.p_cs * i)) for i in range(n)])
            for i, row in enumerate(rows):
                f.store(row, image, self.p.i_ps * i)
        else:
            rows = transpose(f, [f.load(vec(n, "i8"), image, self.p.i_ps * i) for i in range(n)])
            for i, row in enumerate(rows):
                self._write(row, f.at(planes, self.p.p_cs * i))

    def interleave(self, planes: Val, image: Val) -> None:
        """`few` planes to pixels without gaps (i_ps = few)."""
        f, n, c = self.f, self.s.size, self.s.few
        rows = [self._read(f.at(planes, self.p.p_cs * i)) for i in range(c)]
        if c == 1:
            f.store(rows[0], image)
            return
        joined = join(f, rows)
        f.store(f.shuffle(joined, joined, [ch * n + i for i in range(n) for ch in range(c)]), image)

    def _read(self, at: Val) -> Val:
        """Bytes of `size` pixels of one plane."""
        f, n = self.f, self.s.size
        if self.s.op == "enter":
            return f.load(vec(n, "i8"), at).bits("xor", -128)
        return self._quantize(f.load(vec(n, "float"), at), n)

    def _quantize(self, x: Val, n: int) -> Val:
        """`numerics.quantize`. (Multiplying by the reciprocal away from ties is no faster: reading the planes takes the time.)"""
        f = self.f
        assert self.p.scale is not None
        assert self.e is not None
        t = x / self.p.scale.splat(n)
        t = f.select(t.cmp("uno", 0.0), f.c(0.0, t.ty), t)
        return requantize(f, self.e, t)

    def _write(self, code: Val, at: Val) -> None:
        f, n = self.f, self.s.size
        if self.s.op == "leave":
            f.store(code.bits("xor", -128), at)
            return
        assert self.p.zero is not None
        assert self.p.scale is not None
        centred = code.cast("zext", "i32") - self.p.zero.cast("trunc", "i32").splat(n)
        f.store(centred.cast("sitofp", "float") * self.p.scale.splat(n), at)


def transpose(f: Fn, rows: Sequence[Val]) -> list[Val]:
    """n vectors of n elements, n a power of two: interleaving halves log2(n) times."""
    n, now = len(rows), list(rows)
    step = 1
    while step < n:
        index = [j for i in range(n // 2) for j in (i, n + i)]
        low = [f.shuffle(now[i], now[i + n // 2], index) for i in range(n // 2)]
        high = [f.shuffle(now[i], now[i + n // 2], [j + n // 2 for j in index]) for i in range(n // 2)]
        now = [v for pair in zip(low, high, strict=True) for v in pair]
        step *= 2
    return now
