"""Conversions between a caller's images (one plane a channel) and the engine's (channels next to each other).

Squares of `size` pixels times `size` channels are transposed in registers; images of up to four channels are interleaved instead. The last
square of a row or of the channels overlaps the one before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from axforge.axruntime.engines.host.codegen.epilogue import EPILOGUE, join, load_epilogue, requantize
from axforge.axruntime.engines.host.codegen.kit import Fn, Val, vec
from axforge.axruntime.engines.host.features import Isa

#: planes: the caller's array; image: the engine's. p_*: strides of the planes in elements of 1 byte
PLANES = (
    *("planes.base", "planes", "image.base", "image", "n", "c", "h", "w"),
    *("p_ns", "p_cs", "p_rs", "i_ns", "i_rs", "i_ps", "z", "m", *EPILOGUE),
)


@dataclass(frozen=True)
class PlanesSpec:
    """op: 'quantize', 'dequantize' (float32 planes), 'enter' or 'leave' (int8 planes); size: of a square; few: number of channels if
    they are interleaved, else 0."""

    op: str
    size: int
    few: int = 0


def build(name: str, s: PlanesSpec, isa: Isa) -> Fn:
    """The kernel; threads share rows of squares."""
    f = Fn(name, isa, PLANES)
    planes, image = f.base("planes"), f.base("image")
    p = {n: f.param(n) for n in PLANES[4:14]}
    k = _Kernel(f, s, p)
    across = (p["w"] + s.size - 1) // s.size
    down = f.c(1) if s.few else (p["c"] + s.size - 1) // s.size
    # squares along a row of pixels come first: few planes are written at a time, each in order
    first, last = f.share(p["n"] * p["h"] * down * across)
    with f.loop(first, last) as item:
        strip, square = item // across, item % across
        row, block = strip // down, strip % down
        x = f.min(square * s.size, p["w"] - s.size)
        n, h = row // p["h"], row % p["h"]
        flat = f.at(planes, n * p["p_ns"] + h * p["p_rs"] + x * k.bytes)
        px = f.at(image, n * p["i_ns"] + h * p["i_rs"] + x * p["i_ps"])
        if s.few:
            k.interleave(flat, px)
        else:
            c = f.min(block * s.size, p["c"] - s.size)
            k.square(f.at(flat, c * p["p_cs"]), f.at(px, c))
    return f


class _Kernel:
    def __init__(self, f: Fn, s: PlanesSpec, p: dict[str, Val]) -> None:
        self.f, self.s, self.p = f, s, p
        self.bytes = 4 if s.op in ("quantize", "dequantize") else 1
        self.z, self.m = f.param_i32("z"), f.param_f32("m")
        self.e = load_epilogue(f, False)

    def square(self, planes: Val, image: Val) -> None:
        f, n = self.f, self.s.size
        if self.s.op in ("quantize", "enter"):
            rows = transpose(f, [self._read(f.at(planes, self.p["p_cs"] * i)) for i in range(n)])
            for i, row in enumerate(rows):
                f.store(row, image, self.p["i_ps"] * i)
        else:
            rows = transpose(f, [f.load(vec(n, "i8"), image, self.p["i_ps"] * i) for i in range(n)])
            for i, row in enumerate(rows):
                self._write(row, f.at(planes, self.p["p_cs"] * i))

    def interleave(self, planes: Val, image: Val) -> None:
        """`few` planes to pixels without gaps (i_ps = few)."""
        f, n, c = self.f, self.s.size, self.s.few
        rows = [self._read(f.at(planes, self.p["p_cs"] * i)) for i in range(c)]
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
        t = x / self.m.splat(n)
        t = f.select(t.cmp("uno", 0.0), f.c(0.0, t.ty), t)
        return requantize(f, self.e, t)

    def _write(self, code: Val, at: Val) -> None:
        f, n = self.f, self.s.size
        if self.s.op == "leave":
            f.store(code.bits("xor", -128), at)
            return
        centred = code.cast("zext", "i32") - self.z.splat(n)
        f.store(centred.cast("sitofp", "float") * self.m.splat(n), at)


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
