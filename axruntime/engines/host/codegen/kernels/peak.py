"""A loop of nothing but the path's product instruction: what a profile calls peak."""

from collections.abc import Iterator
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axruntime.engines.host.codegen.epilogue import split
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, vec
from axforge.axruntime.engines.host.codegen.params import SCRATCH, A, Extent, I, Params, R, Ref

#: independent accumulators: more than the instruction's latency needs, no more than there are registers
_CHAINS = 12


class PeakSpec(msgspec.Struct, frozen=True):
    """Nothing to choose."""


def macs_per_turn(isa: Isa) -> int:
    """Multiply-accumulates of one turn of the loop."""
    together = {"vnni512": 4, "vnni256": 4, "sdot": 4, "smull": 4, "pair": 2}
    return 4 * 16 * 16 * 64 if isa.dot == "amx" else _CHAINS * isa.width // 32 * together.get(isa.dot, 1)


class PeakParams(Params[A, I, R], frozen=True, kw_only=True):
    """n: turns of the loop; cfg: the tile configuration, where there are tiles."""

    family: ClassVar[str] = "peak"
    spec: PeakSpec
    n: I
    cfg: A | None = None

    def extents(self: "PeakParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        if self.cfg is not None:
            yield Extent(self.cfg, 0, 64)


@kernel(PeakParams)
def build(f: Fn, params: PeakParams[Param, Param, Param]) -> None:
    """The loop, `n` turns."""
    p: PeakParams[Val, Val, Val] = f.values(params)
    if p.cfg is not None:
        f.call("void", "llvm.x86.ldtilecfg", p.cfg)
        for t in range(8):
            f.call("void", "llvm.x86.tilezero", f"i8 {t}")
        with f.loop(0, p.n):
            for t in range(4):
                f.call("void", "llvm.x86.tdpbusd", f"i8 {t}", f"i8 {4 + t // 2}", f"i8 {6 + t % 2}")
        f.call("void", "llvm.x86.tilerelease")
        return
    lanes = f.isa.width // 32
    scratch = f.base_at(SCRATCH)
    acc = [f.var(vec(lanes, "i32"), f.c(0, vec(lanes, "i32"))) for _ in range(_CHAINS)]
    with f.loop(0, p.n) as i:
        a = i.cast("trunc", "i32").splat(lanes)
        for v in acc:
            v.set(_product(f, f.isa, v.get(), a))
    for v in acc:
        f.store(v.get(), scratch)
        scratch = f.at(scratch, 4 * lanes)


def _product(f: Fn, isa: Isa, acc: Val, a: Val) -> Val:
    ty = acc.ty
    if isa.dot in ("vnni512", "vnni256"):
        wide = vec(isa.width // 8, "i8")
        return f.call(ty, f"llvm.x86.avx512.vpdpbusd.{isa.width}", acc, a.cast("bitcast", wide), a.cast("bitcast", wide))
    if isa.dot == "pair":
        wide = vec(isa.width // 16, "i16")
        return acc + f.call(ty, "llvm.x86.avx2.pmadd.wd", acc.cast("bitcast", wide), a.cast("bitcast", wide))
    if isa.dot == "sdot":
        return f.call(ty, "llvm.aarch64.neon.sdot.v4i32.v16i8", acc, a.cast("bitcast", "<16 x i8>"), a.cast("bitcast", "<16 x i8>"))
    if isa.dot == "smull":
        x, w = (v.cast("bitcast", "<16 x i8>") for v in (a, acc))
        low, high = (split(f, v, 2) for v in (x, w))
        products = [p.cast("sext", "i16") * q.cast("sext", "i16") for p, q in zip(low, high, strict=True)]
        return acc + f.call(ty, "llvm.aarch64.neon.saddlp.v4i32.v8i16", products[0] + products[1])
    return acc * a + a
