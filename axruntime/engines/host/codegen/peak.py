"""A loop of nothing but the path's product instruction: what a profile calls peak."""

from dataclasses import dataclass

from axforge.axruntime.engines.host.codegen.kit import Fn, Val, vec
from axforge.axruntime.engines.host.features import Isa
from axforge.axruntime.engines.host.steps import SCRATCH

PEAK = ("n", "cfg.base", "cfg")
#: independent accumulators: more than the instruction's latency needs, no more than there are registers
_CHAINS = 12


@dataclass(frozen=True)
class PeakSpec:
    """Nothing to choose."""


def macs_per_turn(isa: Isa) -> int:
    """Multiply-accumulates of one turn of the loop."""
    lanes = isa.width // 32
    return {"amx": 4 * 16 * 16 * 64, "vnni512": _CHAINS * lanes * 4, "vnni256": _CHAINS * lanes * 4, "pair": _CHAINS * lanes * 2}.get(
        isa.dot, _CHAINS * lanes
    )


def build(name: str, s: PeakSpec, isa: Isa) -> Fn:
    """The loop, `n` turns."""
    f = Fn(name, isa, PEAK)
    if isa.dot == "amx":
        f.call("void", "llvm.x86.ldtilecfg", f.base("cfg"))
        for t in range(8):
            f.call("void", "llvm.x86.tilezero", f"i8 {t}")
        with f.loop(0, f.param("n")):
            for t in range(4):
                f.call("void", "llvm.x86.tdpbusd", f"i8 {t}", f"i8 {4 + t // 2}", f"i8 {6 + t % 2}")
        f.call("void", "llvm.x86.tilerelease")
        return f
    lanes = isa.width // 32
    scratch = f.base_at(SCRATCH)
    acc = [f.var(vec(lanes, "i32"), f.c(0, vec(lanes, "i32"))) for _ in range(_CHAINS)]
    with f.loop(0, f.param("n")) as i:
        a = i.cast("trunc", "i32").splat(lanes)
        for v in acc:
            v.set(_product(f, isa, v.get(), a))
    for v in acc:
        f.store(v.get(), scratch)
        scratch = f.at(scratch, 4 * lanes)
    return f


def _product(f: Fn, isa: Isa, acc: Val, a: Val) -> Val:
    ty = acc.ty
    if isa.dot in ("vnni512", "vnni256"):
        wide = vec(isa.width // 8, "i8")
        return f.call(ty, f"llvm.x86.avx512.vpdpbusd.{isa.width}", acc, a.cast("bitcast", wide), a.cast("bitcast", wide))
    if isa.dot == "pair":
        wide = vec(isa.width // 16, "i16")
        return acc + f.call(ty, "llvm.x86.avx2.pmadd.wd", acc.cast("bitcast", wide), a.cast("bitcast", wide))
    return acc * a + a
