"""Convolution in the AMX tile registers: two tiles of up to 16 pixels times two of 16 channels, 64 products deep a step.

Tiles 0 to 3 accumulate, 4 and 5 hold pixels (loaded straight from the image, one row a pixel), 6 and 7 weights. The accumulators start as
the bias, loaded with a row distance of zero. Registers are named explicitly, so LLVM has none to allocate.
"""

from dataclasses import dataclass

from axruntime.engines.host.codegen.conv import CONV, store_channels, tile_address
from axruntime.engines.host.codegen.epilogue import EPILOGUE, finish, load_epilogue
from axruntime.engines.host.codegen.kit import Fn, Val
from axruntime.engines.host.features import Isa
from axruntime.engines.host.steps import SCRATCH

#: bytes of scratch a thread needs: four tiles of 16 x 16 int32
SCRATCH_BYTES = 4096
AMX = (*CONV, "cfg.base", "cfg")


@dataclass(frozen=True)
class AmxSpec:
    """table: whether the epilogue has one."""

    table: bool


def build(name: str, s: AmxSpec, isa: Isa) -> Fn:
    """The kernel."""
    f = Fn(name, isa, AMX)
    skip = ("x", "w", "bias", "mult", "segs", "y", "cfg")
    p = {n: f.param(n) for n in AMX if n not in EPILOGUE and "." not in n and n not in skip}
    x, y, w = f.base("x"), f.base("y"), f.base("w")
    bias, mult, segs = f.base("bias"), f.base("mult"), f.base("segs")
    e = load_epilogue(f, s.table)
    scratch = f.at(f.base_at(SCRATCH), f.tid * SCRATCH_BYTES)
    f.call("void", "llvm.x86.ldtilecfg", f.base("cfg"))
    pairs = (p["mtiles"] + 1) // 2
    chunks = (p["nblocks"] + p["chunk"] - 1) // p["chunk"]
    first, last = f.share(chunks * pairs)
    with f.loop(first, last) as item:
        m0 = (item % pairs) * 2
        x0, y0 = tile_address(f, p, m0, x, y)
        x1, y1 = tile_address(f, p, f.min(m0 + 1, p["mtiles"] - 1), x, y)
        begin = (item // pairs) * p["chunk"]
        with f.loop(begin, f.min(begin + p["chunk"], p["nblocks"])) as nb:
            _product(f, p, (x0, x1), f.at(w, nb * p["wstep"]), f.at(bias, nb * 128), segs)
            for t in range(4):
                f.call("void", "llvm.x86.tilestored64", f"i8 {t}", f.at(scratch, 1024 * t), f.c(64))
            scales = [f.load("<16 x float>", mult, nb * 128 + 64 * h) for h in range(2)]
            with f.loop(0, p["rows"]) as r:
                acc = [f.load("<16 x i32>", scratch, r * 64 + 1024 * t, align=64) for t in range(4)]
                codes = finish(f, e, [acc[t].cast("sitofp", "float") * scales[t % 2] for t in range(4)])
                for t, code in enumerate(codes):
                    n0 = nb * 32 + 16 * (t % 2)
                    store_channels(f, code, f.at((y0, y1)[t // 2], r * p["out_ps"] + n0), p["oc"] - n0)
    f.call("void", "llvm.x86.tilerelease")
    return f


def _product(f: Fn, p: dict[str, Val], xs: tuple[Val, Val], w: Val, bias: Val, segs: Val) -> None:
    """Tiles 0..3 = bias + pixels times weights. `segs` lists the byte offset of every step of 64."""
    load = "llvm.x86.tileloadd64"
    for t in range(4):
        f.call("void", load, f"i8 {t}", f.at(bias, 64 * (t % 2)), f.c(0))
    with f.loop(0, p["nseg"]) as k:
        off = f.load("i64", segs, k * 8, align=8)
        pw = f.at(w, k * 2048)
        f.call("void", load, "i8 4", f.at(xs[0], off), p["in_ps"])
        f.call("void", load, "i8 6", pw, f.c(64))
        f.call("void", "llvm.x86.tdpbusd", "i8 0", "i8 4", "i8 6")
        f.call("void", load, "i8 7", f.at(pw, 1024), f.c(64))
        f.call("void", "llvm.x86.tdpbusd", "i8 1", "i8 4", "i8 7")
        f.call("void", load, "i8 5", f.at(xs[1], off), p["in_ps"])
        f.call("void", "llvm.x86.tdpbusd", "i8 2", "i8 5", "i8 6")
        f.call("void", "llvm.x86.tdpbusd", "i8 3", "i8 5", "i8 7")
