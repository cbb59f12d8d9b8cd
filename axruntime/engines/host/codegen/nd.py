"""Element-wise kernels and copies over strided tensors of any rank: the generic way to do everything that has no better one.

One kernel is specialised by what it does, by the number of outer axes, and by whether the inner axis is contiguous ('c'), constant ('0')
or strided ('s') in each operand. Index lists (constant gather, nearest resize) replace the stride of an axis of operand 0 by a table of
byte offsets.
"""

from dataclasses import dataclass

from axforge.axruntime.engines.host.codegen.epilogue import EPILOGUE, Epilogue, Finish, finish, finish64, load_epilogue, lookup, store_part
from axforge.axruntime.engines.host.codegen.kit import Fn, Val, lanes, vec
from axforge.axruntime.engines.host.features import Isa

#: what a kernel does -> (number of operands, bytes of an operand element, bytes of a result element)
OPS = {
    "fill": (0, 1, 1),
    "copy": (1, 1, 1),
    "flip": (1, 1, 1),
    "table": (1, 1, 1),
    "add": (2, 1, 1),
    "mul": (2, 1, 1),
    "quantize": (1, 4, 1),
    "dequantize": (1, 1, 4),
}


@dataclass(frozen=True)
class NdSpec:
    """op of OPS; outer: number of outer axes; inner: class of the inner axis of each operand and of the result; taken: which
    axes of operand 0 (outer ones, then the inner one) go through an index table; finish: of the epilogue.
    permute: the inner axis is gathered from 128 consecutive bytes, which AVX-512 VBMI does in a register."""

    op: str
    outer: int
    inner: str
    taken: tuple[bool, ...]
    finish: Finish
    permute: bool = False


def params(s: NdSpec) -> tuple[str, ...]:
    """Names of the kernel's parameters."""
    names = ["n", *[f"d{i}" for i in range(s.outer)]]
    for j in range(OPS[s.op][0]):
        names += [f"x{j}.base", f"x{j}", *[f"x{j}.s{i}" for i in range(s.outer)], f"x{j}.s"]
    names += ["y.base", "y", *[f"y.s{i}" for i in range(s.outer)], "y.s"]
    for i, taken in enumerate(s.taken):
        names += [f"t{i}.base", f"t{i}"] if taken else []
    names += ["order.base", "order"] if s.permute else []
    return (*names, "z0", "z1", "m0", "m1", *EPILOGUE)


def build(name: str, s: NdSpec, isa: Isa) -> Fn:
    """The kernel."""
    f = Fn(name, isa, params(s))
    count = OPS[s.op][0]
    xs = [f.base(f"x{j}") for j in range(count)]
    y = f.base("y")
    tables = [f.base(f"t{i}") if t else None for i, t in enumerate(s.taken)]
    body = _Body(f, s)
    n = f.param("n")
    if s.outer == 0:
        first, last = f.share(n)
        _inner(f, s, body, xs, y, tables[-1], first, last)
        return f
    across = f.param(f"d{s.outer - 1}")
    total = across
    for i in range(s.outer - 1):
        total = total * f.param(f"d{i}")
    first, last = f.share(total)
    # positions are divided into indices once a row of the last outer axis
    with f.loop(first // across, (last + across - 1) // across) as row:
        rest, px, py = row, list(xs), y
        for i in reversed(range(s.outer - 1)):
            d = f.param(f"d{i}")
            at, rest = (rest % d, rest // d) if i else (rest, rest)
            px, py = _advance(f, s, px, py, i, at, tables[i])
        begin = f.max(first - row * across, 0)
        with f.loop(begin, f.min(last - row * across, across)) as at:
            qx, qy = _advance(f, s, px, py, s.outer - 1, at, tables[s.outer - 1])
            _inner(f, s, body, qx, qy, tables[-1], f.c(0), n)
    return f


def _advance(f: Fn, s: NdSpec, px: list[Val], py: Val, axis: int, at: Val, table: Val | None) -> tuple[list[Val], Val]:
    """Addresses moved to index `at` of an outer axis; operand 0 by its table if it has one."""
    out = []
    for j, x in enumerate(px):
        step = f.load("i64", table, at * 8) if table is not None and j == 0 else at * f.param(f"x{j}.s{axis}")
        out.append(f.at(x, step))
    return out, f.at(py, at * f.param(f"y.s{axis}"))


def _inner(f: Fn, s: NdSpec, body: "_Body", xs: list[Val], y: Val, table: Val | None, first: Val, last: Val) -> None:
    _, size_in, size_out = OPS[s.op]
    if s.permute:
        _permute(f, xs[0], y, f.param("n"))
        return
    start = first
    if "s" not in s.inner and table is None:
        if f.isa.avx512 and s.op in ("add", "mul") and s.finish.small:
            whole = start + ((last - start) // 64) * 64
            with f.loop(start, whole, 64) as i:
                sums = []
                for q in range(4):
                    parts = [_read(f, x, i + 16 * q if c == "c" else f.c(0), 16, c, 1) for x, c in zip(xs, s.inner, strict=False)]
                    sums.append(body.product(parts, 16))
                f.store(finish64(f, body.e, sums), y, i)
            start = whole
        for width in (64, 16) if s.op in ("fill", "copy", "flip", "table") else (16,):
            whole = start + ((last - start) // width) * width
            with f.loop(start, whole, width) as i:
                parts = [_read(f, x, i * size_in if c == "c" else f.c(0), width, c, size_in) for x, c in zip(xs, s.inner, strict=False)]
                f.store(body.apply(parts, width), y, i * size_out)
            start = whole
    with f.loop(start, last) as i:
        parts = []
        for j, x in enumerate(xs):
            step = f.load("i64", table, i * 8) if table is not None and j == 0 else i * f.param(f"x{j}.s")
            parts.append(f.load("i32" if size_in == 4 else "i8", x, step))
        f.store(body.apply(parts, 1), y, i * f.param("y.s"))


def _permute(f: Fn, x: Val, y: Val, n: Val) -> None:
    """y[i] = x[order[i]] for order in 0..127."""
    order = f.base("order")
    low, high = f.load("<64 x i8>", x), f.load("<64 x i8>", x, 64)
    with f.loop(0, n, 64) as i:
        index = f.load("<64 x i8>", order, i)
        store_part(f, f.call("<64 x i8>", "llvm.x86.avx512.vpermi2var.qi.512", low, index, high), f.at(y, i), n - i)


def _read(f: Fn, x: Val, offset: Val, width: int, kind: str, size: int) -> Val:
    ty = "i32" if size == 4 else "i8"
    return f.load(vec(width, ty), x, offset) if kind == "c" else f.load(ty, x).splat(width)


class _Body:
    """What happens to an element; constants are read once."""

    def __init__(self, f: Fn, s: NdSpec) -> None:
        self.f, self.s = f, s
        self.z = [f.param_i32(f"z{i}") for i in range(2)]
        self.m = [f.param_f32(f"m{i}") for i in range(2)]
        self.e: Epilogue = load_epilogue(f, True if s.op == "table" else s.finish)

    def _centred(self, x: Val, i: int) -> Val:
        """int32 code - zero point (z holds zero_point + 128)."""
        return x.cast("zext", "i32") - self.z[i].splat(lanes(x.ty))

    def apply(self, xs: list[Val], n: int) -> Val:
        f, op = self.f, self.s.op
        if op == "fill":
            return self.e.shift.splat(n)
        if op == "copy":
            return xs[0]
        if op == "flip":
            return xs[0].bits("xor", -128)
        if op == "table":
            assert self.e.table is not None
            return lookup(f, self.e.table, self.e.banks, xs[0])
        if op == "quantize":
            return self._quantize(xs[0].cast("bitcast", vec(n, "float")), n)
        if op == "dequantize":
            return (self._centred(xs[0], 0).cast("sitofp", "float") * self.m[0].splat(n)).cast("bitcast", vec(n, "i32"))
        return finish(f, self.e, [self.product(xs, n)])[0]

    def product(self, xs: list[Val], n: int) -> Val:
        """What `add` and `mul` requantize."""
        a, b = self._centred(xs[0], 0), self._centred(xs[1], 1)
        if self.s.op == "mul":
            return (a * b).cast("sitofp", "float") * self.m[0].splat(n)
        return a.cast("sitofp", "float") * self.m[0].splat(n) + b.cast("sitofp", "float") * self.m[1].splat(n)

    def _quantize(self, x: Val, n: int) -> Val:
        """`numerics.quantize`: a division, and NaN is 0."""
        t = x / self.m[0].splat(n)
        t = self.f.select(t.cmp("uno", 0.0), self.f.c(0.0, t.ty), t)
        return finish(self.f, self.e, [t])[0]
