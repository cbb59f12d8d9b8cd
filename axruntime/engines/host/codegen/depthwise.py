"""Depthwise convolution, 64 channels at a time, for AVX-512 VNNI.

Four taps of 64 bytes are unpacked so that the four products of a channel lie together, which vpdpbusd sums. Unpacking leaves
channels in an order that the packing of the epilogue undoes; weights, bias and multipliers are stored in that order, once for each
channel a vector may start at.
"""

from dataclasses import dataclass

from axforge.axruntime.engines.host.codegen.epilogue import EPILOGUE, Epilogue, Finish, finish64, load_epilogue, store_part
from axforge.axruntime.engines.host.codegen.kit import Fn, Val
from axforge.axruntime.engines.host.features import Isa

DEPTHWISE = (
    *("x.base", "x", "y.base", "y", "k.base", "k", "taps.base", "taps", "starts.base", "starts"),
    *("images", "oh", "pixels", "blocks", "in_ns", "in_rs", "in_ps", "out_ns", "out_rs", "out_ps", "bytes", *EPILOGUE),
)


@dataclass(frozen=True)
class DepthwiseSpec:
    """groups: of four taps; lines: output rows that share the unpacked bytes (with weights of their own); finish: of the epilogue.
    short: fewer than 64 bytes are stored at a time."""

    groups: int
    lines: int
    finish: Finish
    short: bool


def build(name: str, s: DepthwiseSpec, isa: Isa) -> Fn:
    """The kernel; threads share rows."""
    f = Fn(name, isa, DEPTHWISE)
    x, y, k, taps, starts = (f.base(n) for n in ("x", "y", "k", "taps", "starts"))
    e = load_epilogue(f, s.finish)
    p = {n: f.param(n) for n in DEPTHWISE[10:21]}
    offsets = [f.load("i64", taps, 8 * t) for t in range(4 * s.groups)]
    strips = (p["oh"] + s.lines - 1) // s.lines
    first, last = f.share(p["images"] * strips)
    with f.loop(first, last) as item:
        # the last strip of an image overlaps the one before it
        image, oh = item // strips, f.min((item % strips) * s.lines, p["oh"] - s.lines)
        px = f.at(x, image * p["in_ns"] + oh * p["in_rs"])
        py = f.at(y, image * p["out_ns"] + oh * p["out_rs"])
        with f.loop(0, p["pixels"]) as pixel, f.loop(0, p["blocks"]) as b:
            start, phase = f.load("i64", starts, b * 16), f.load("i64", starts, b * 16 + 8)
            source, to = f.at(px, pixel * p["in_ps"] + start), f.at(py, pixel * p["out_ps"] + start)
            for line, code in enumerate(_block(f, s, e, source, f.at(k, phase), offsets)):
                if s.short:
                    store_part(f, code, f.at(to, p["out_rs"] * line), p["bytes"])
                else:
                    f.store(code, to, p["out_rs"] * line)
    return f


def _block(f: Fn, s: DepthwiseSpec, e: Epilogue, x: Val, k: Val, offsets: list[Val]) -> list[Val]:
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
