"""Reductions over strided tensors of any rank: sums, maxima, dot products of two activations, softmax."""

from dataclasses import dataclass

from axforge.axruntime.engines.host.codegen.epilogue import EPILOGUE, finish, load_epilogue
from axforge.axruntime.engines.host.codegen.kit import Fn, Val, Var
from axforge.axruntime.engines.host.features import Isa


@dataclass(frozen=True)
class ReduceSpec:
    """op: 'sum', 'max', 'dot' (two operands) or 'softmax' (one reduced axis, which the result keeps); outer, inner: numbers of axes."""

    op: str
    outer: int
    inner: int
    table: bool = False


def params(s: ReduceSpec) -> tuple[str, ...]:
    """Names of the kernel's parameters."""
    names = [f"d{i}" for i in range(s.outer)] + [f"r{i}" for i in range(s.inner)]
    for x in ("x0", "x1") if s.op == "dot" else ("x0",):
        names += [f"{x}.base", x, *[f"{x}.s{i}" for i in range(s.outer)], *[f"{x}.r{i}" for i in range(s.inner)]]
    names += ["y.base", "y", *[f"y.s{i}" for i in range(s.outer)], "y.r0", "z0", "z1", "m", "exp.base", "exp"]
    return (*names, *EPILOGUE)


def build(name: str, s: ReduceSpec, isa: Isa) -> Fn:
    """The kernel; threads share the outer positions."""
    f = Fn(name, isa, params(s))
    names = ("x0", "x1") if s.op == "dot" else ("x0",)
    xs, y = [f.base(x) for x in names], f.base("y")
    body = _Body(f, s)
    total = f.c(1)
    for i in range(s.outer):
        total = total * f.param(f"d{i}")
    first, last = f.share(total)
    with f.loop(first, last) as flat:
        rest, px, py = flat, list(xs), y
        for i in reversed(range(s.outer)):
            d = f.param(f"d{i}")
            at, rest = rest % d, rest // d
            px = [f.at(x, at * f.param(f"{n}.s{i}")) for x, n in zip(px, names, strict=True)]
            py = f.at(py, at * f.param(f"y.s{i}"))
        body.run(px, py)
    return f


class _Body:
    def __init__(self, f: Fn, s: ReduceSpec) -> None:
        self.f, self.s = f, s
        self.zeros = [f.param_i32("z0"), f.param_i32("z1")]
        self.m = f.param_f32("m")
        self.e = load_epilogue(f, s.table)

    def run(self, xs: list[Val], y: Val) -> None:
        f = self.f
        if self.s.op == "softmax":
            self._softmax(xs[0], y)
            return
        acc = f.var("i32", f.c(0, "i32"))
        self._loops(xs, 0, acc)
        if self.s.op == "max":
            f.store(acc.get().cast("trunc", "i8"), y)
        else:
            t = acc.get().cast("sitofp", "float") * self.m
            f.store(finish(f, self.e, [t])[0], y)

    def _loops(self, xs: list[Val], depth: int, acc: Var) -> None:
        """Nested loops over the reduced axes; the innermost adds one element to `acc`."""
        f, s = self.f, self.s
        if depth < s.inner:
            with f.loop(0, f.param(f"r{depth}")) as i:
                self._loops([f.at(x, i * f.param(f"x{j}.r{depth}")) for j, x in enumerate(xs)], depth + 1, acc)
            return
        value = [f.load("i8", x).cast("zext", "i32") for x in xs]
        if s.op == "max":
            acc.set(f.max(acc.get(), value[0]))
        elif s.op == "sum":
            acc.set(acc.get() + value[0] - self.zeros[0])
        else:
            acc.set(acc.get() + (value[0] - self.zeros[0]) * (value[1] - self.zeros[1]))

    def _softmax(self, x: Val, y: Val) -> None:
        f = self.f
        exp, n, sx, sy = f.base("exp"), f.param("r0"), f.param("x0.r0"), f.param("y.r0")
        best, total = f.var("i32", f.c(0, "i32")), f.var("i32", f.c(0, "i32"))
        with f.loop(0, n) as i:
            best.set(f.max(best.get(), f.load("i8", x, i * sx).cast("zext", "i32")))
        top = best.get()

        def value(i: Val) -> Val:
            d = top - f.load("i8", x, i * sx).cast("zext", "i32")
            return f.load("i32", exp, d.cast("zext", "i64") * 4)

        with f.loop(0, n) as i:
            total.set(total.get() + value(i))
        whole = total.get().cast("sitofp", "float")
        with f.loop(0, n) as i:
            t = (value(i).cast("sitofp", "float") / whole) * self.m
            f.store(finish(f, self.e, [t])[0], y, i * sy)
