"""Convolution in the AMX tile registers: tiles of up to 16 pixels times tiles of 16 channels, 64 products deep a step.

Tiles 0 to 3 accumulate, 4 and 5 hold pixels (loaded straight from the image, one row a pixel), 6 and 7 weights. The accumulators start as
the bias, loaded with a row distance of zero. Registers are named explicitly, so LLVM has none to allocate.
"""

from dataclasses import dataclass

from axruntime.engines.host.codegen.epilogue import EPILOGUE, Finish, finish64, load_epilogue, store_part
from axruntime.engines.host.codegen.kit import Fn, Val, Var
from axruntime.engines.host.features import Isa
from axruntime.engines.host.steps import SCRATCH

#: steps of 64 products by which weights are fetched ahead of their use, into the first- and the second-level cache
AHEAD, FAR_AHEAD = 2, 12
#: most bytes of a pixel's row that are gathered before the product
MOST_GATHERED = 512
#: bytes of scratch a thread needs: four tiles of 16 x 16 int32, and 64 gathered rows
SCRATCH_BYTES = 4096 + 64 * MOST_GATHERED + 64
AMX = (
    *("x.base", "x", "w.base", "w", "bias.base", "bias", "mult.base", "mult", "segs.base", "segs", "y.base", "y", "cfg.base", "cfg"),
    *("at.base", "at", "pixels.base", "pixels", "nseg", "in_ps", "out_ps", "rows", "mtiles", "nblocks", "chunk", "oc", "wstep", *EPILOGUE),
)


@dataclass(frozen=True)
class Gather:
    """Rows of short segments are copied together first: `count` segments of `length` bytes by loads of `width`, rows of `row` bytes."""

    count: int
    length: int
    width: int
    row: int


@dataclass(frozen=True)
class AmxSpec:
    """across: channel tiles of a block, 2 (times two pixel tiles) or 1 (times four, which reads weights half as often).

    scattered: every pixel has an offset of its own (below 0: it is none), else they follow each other by `out_ps`. gather: see there.
    """

    finish: Finish
    across: int = 2
    scattered: bool = False
    gather: Gather | None = None


def build(name: str, s: AmxSpec, isa: Isa) -> Fn:
    """The kernel. A block's sums are finished after the next block's product has been issued."""
    f = Fn(name, isa, AMX)
    k = _Kernel(f, s)
    p = k.p
    f.call("void", "llvm.x86.ldtilecfg", f.base("cfg"))
    high = 4 // s.across
    pairs = (p["mtiles"] + high - 1) // high
    chunks = (p["nblocks"] + p["chunk"] - 1) // p["chunk"]
    first, last = f.share(chunks * pairs)
    before = k.nothing()
    with f.loop(first, last) as item:
        m0 = (item % pairs) * high
        tiles = [f.min(m0 + i, p["mtiles"] - 1) for i in range(high)]
        xs = k.sources(tiles)
        begin = (item // pairs) * p["chunk"]
        with f.loop(begin, f.min(begin + p["chunk"], p["nblocks"])) as nb:
            k.product(xs, nb)
            with f.if_(before.some.get()):
                k.finish(before)
            k.keep()
            before.set(tiles, nb)
    with f.if_(before.some.get()):
        k.finish(before)
    f.call("void", "llvm.x86.tilerelease")
    return f


@dataclass(frozen=True)
class _Block:
    """A block whose sums lie in scratch: its tiles of pixels, its number among the channel blocks."""

    some: Var
    tiles: list[Var]
    nb: Var

    def set(self, tiles: list[Val], nb: Val) -> None:
        for var, value in zip((*self.tiles, self.nb), (*tiles, nb), strict=True):
            var.set(value)
        self.some.set(self.nb.f.c(1, "i1"))


class _Kernel:
    def __init__(self, f: Fn, s: AmxSpec) -> None:
        self.f, self.s = f, s
        self.width = 16 * s.across
        names = AMX[18 : -len(EPILOGUE)]
        self.p = {n: f.param(n) for n in names}
        self.x, self.y, self.w, self.at = f.base("x"), f.base("y"), f.base("w"), f.base("at")
        self.bias, self.mult, self.segs = f.base("bias"), f.base("mult"), f.base("segs")
        self.pixels = f.base("pixels")
        self.e = load_epilogue(f, s.finish)
        self.scratch = f.at(f.base_at(SCRATCH), f.tid * SCRATCH_BYTES)
        self.rows = f.at(self.scratch, 4096)

    def nothing(self) -> _Block:
        """The block before the first."""
        f = self.f
        tiles = [f.var("i64", f.c(0)) for _ in range(4 // self.s.across)]
        return _Block(f.var("i1", f.c(0, "i1")), tiles, f.var("i64", f.c(0)))

    def sources(self, tiles: list[Val]) -> list[Val]:
        """Addresses of the first byte of each tile's first row; gathers the rows if that is wanted."""
        f = self.f
        xs = [f.at(self.x, f.load("i32", self.at, m * 8).cast("sext", "i64")) for m in tiles]
        if self.s.gather is None:
            return xs
        g = self.s.gather
        offsets = [f.load("i64", self.segs, 8 * i) for i in range(g.count)]
        rows = [f.at(self.rows, 16 * g.row * t) for t in range(len(tiles))]
        for x, to in zip(xs, rows, strict=True):
            with f.loop(0, self.p["rows"]) as r:
                px, py = f.at(x, r * self.p["in_ps"]), f.at(to, r * g.row)
                for i, offset in enumerate(offsets):
                    f.store(f.load(f"<{g.width} x i8>", px, offset), py, i * g.length)
        return rows

    def product(self, xs: list[Val], nb: Val) -> None:
        """Tiles 0..3 = bias + pixels times weights. `segs` lists the byte offset of every step of 64."""
        f, p, g = self.f, self.p, self.s.gather
        wide = self.s.across
        w, bias = f.at(self.w, nb * p["wstep"]), f.at(self.bias, nb * 4 * self.width)
        distance = f.c(g.row) if g else p["in_ps"]
        for t in range(4):
            self._load(t, f.at(bias, 64 * (t % wide)), f.c(0))
        with f.loop(0, g.row // 64 if g else p["nseg"]) as k:
            off = k * 64 if g else f.load("i64", self.segs, k * 8, align=8)
            pw = f.at(w, k * (1024 * wide))
            for n in range(wide):
                self._load(6 + n, f.at(pw, 1024 * n), f.c(64))
            if not g:
                self._prefetch(pw, AHEAD, 3)
                self._prefetch(pw, FAR_AHEAD, 2)
            for i, x in enumerate(xs):
                self._load(4 + i % 2, f.at(x, off), distance)
                for n in range(wide):
                    f.call("void", "llvm.x86.tdpbusd", f"i8 {i * wide + n}", f"i8 {4 + i % 2}", f"i8 {6 + n}")

    def _prefetch(self, w: Val, steps: int, level: int) -> None:
        """Fetches the weights of one later step, line by line. level: 3 into the first-level cache, 2 into the second."""
        size = 1024 * self.s.across
        for at in range(steps * size, (steps + 1) * size, 64):
            self.f.call("void", "llvm.prefetch.p0", self.f.at(w, at), "i32 0", f"i32 {level}", "i32 1")

    def _load(self, tile: int, at: Val, distance: Val) -> None:
        self.f.call("void", "llvm.x86.tileloadd64", f"i8 {tile}", at, distance)

    def keep(self) -> None:
        """Tiles 0..3 to scratch."""
        for t in range(4):
            self.f.call("void", "llvm.x86.tilestored64", f"i8 {t}", self.f.at(self.scratch, 1024 * t), self.f.c(64))

    def finish(self, block: _Block) -> None:
        """Codes from sums, 64 at a time: two pixels of 32 channels or four of 16."""
        f, p, wide, width = self.f, self.p, self.s.across, self.width
        nb, tiles = block.nb.get(), [m.get() for m in block.tiles]
        scales = [f.load("<16 x float>", self.mult, nb * 4 * width + 64 * h) for h in range(wide)]
        y = f.at(self.y, nb * width)
        ys = [] if self.s.scattered else [f.at(y, f.load("i32", self.at, m * 8 + 4).cast("sext", "i64")) for m in tiles]
        left = p["oc"] - nb * width
        with f.loop(0, p["rows"]) as r:
            acc = [f.load("<16 x i32>", self.scratch, r * 64 + 1024 * t, align=64) for t in range(4)]
            codes = finish64(f, self.e, [acc[t].cast("sitofp", "float") * scales[t % wide] for t in range(4)])
            for t, m in enumerate(tiles):
                pixel = f.shuffle(codes, codes, range(width * t, width * (t + 1)))
                if self.s.scattered:
                    off = f.load("i32", self.pixels, (m * 16 + r) * 4).cast("sext", "i64")
                    with f.if_(off.cmp("sge", 0)):
                        store_part(f, pixel, f.at(y, off), left)
                else:
                    store_part(f, pixel, f.at(ys[t], r * p["out_ps"]), left)
