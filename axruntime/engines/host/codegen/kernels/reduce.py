"""Reductions over strided tensors of any rank: sums, maxima, dot products of two activations, softmax."""

from collections.abc import Iterator
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axcompiler.strides import span
from axforge.axruntime.engines.host.codegen.epilogue import EpilogueParams, Finish, finish, read_epilogue
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, Var
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, Params, R, Ref
from axforge.axruntime.engines.host.codegen.walk import Walked, walk


class ReduceSpec(msgspec.Struct, frozen=True):
    """op: 'sum', 'max', 'dot' (two operands) or 'softmax' (one reduced axis, which the result keeps); outer, inner: numbers of axes."""

    op: str
    outer: int
    inner: int
    table: bool = False


class ReduceParams(Params[A, I, R], frozen=True, kw_only=True):
    """outer, inner: sizes of the axes. zeros: zero_point + 128 of each operand, for 'sum' and 'dot'.

    scale, epilogue: of the sum or the quotient, for all but 'max'; exponent: int32 [256], for 'softmax'.
    """

    family: ClassVar[str] = "reduce"
    spec: ReduceSpec
    outer: tuple[I, ...]
    inner: tuple[I, ...]
    xs: tuple[Walked[A, I, R], ...]
    y: Walked[A, I, R]
    zeros: tuple[I, ...] = ()
    scale: R | None = None
    exponent: A | None = None
    epilogue: EpilogueParams[A, I, R] | None = None

    def extents(self: "ReduceParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        for x in self.xs:
            yield Extent(x.at, *span((*self.outer, *self.inner), (*x.outer, *x.inner)))
        inner = self.inner if self.y.inner else ()
        yield Extent(self.y.at, *span((*self.outer, *inner), (*self.y.outer, *self.y.inner)), writes=True)
        if self.exponent is not None:
            yield Extent(self.exponent, 0, 4 * 256)
        if self.epilogue is not None:
            yield from self.epilogue.extents()


@kernel(ReduceParams)
def build(f: Fn, p: ReduceParams[Param, Param, Param]) -> None:
    """The kernel; threads share the outer positions."""
    body = _ReductionBody(f, p)
    with walk(f, p.outer, (*p.xs, p.y)) as (*xs, y):
        body.run(xs, y)


class _ReductionBody:
    def __init__(self, f: Fn, p: ReduceParams[Param, Param, Param]) -> None:
        self.f, self.p, self.s = f, p, p.spec
        self.zeros = [z.get().cast("trunc", "i32") for z in p.zeros]
        self.m = None if p.scale is None else p.scale.get()
        self.e = None if p.epilogue is None else read_epilogue(f, p.epilogue, Finish(p.spec.table))

    def _finish(self, t: Val) -> Val:
        """The code for a float."""
        assert self.m is not None
        assert self.e is not None
        return finish(self.f, self.e, [t * self.m])[0]

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
            f.store(self._finish(acc.get().cast("sitofp", "float")), y)

    def _loops(self, xs: list[Val], depth: int, acc: Var) -> None:
        """Nested loops over the reduced axes; the innermost adds one element to `acc`."""
        f, s = self.f, self.s
        if depth < s.inner:
            with f.loop(0, self.p.inner[depth].get()) as i:
                self._loops([f.at(x, i * operand.inner[depth].get()) for x, operand in zip(xs, self.p.xs, strict=True)], depth + 1, acc)
            return
        value = [f.load("i8", x).cast("zext", "i32") for x in xs]
        if s.op == "max":
            acc.set(f.max(acc.get(), value[0]))
        elif s.op == "sum":
            acc.set(acc.get() + value[0] - self.zeros[0])
        else:
            acc.set(acc.get() + (value[0] - self.zeros[0]) * (value[1] - self.zeros[1]))

    def _softmax(self, x: Val, y: Val) -> None:
        f, p = self.f, self.p
        assert p.exponent is not None
        exp, n, sx, sy = p.exponent.get(), p.inner[0].get(), p.xs[0].inner[0].get(), p.y.inner[0].get()
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
            f.store(self._finish(value(i).cast("sitofp", "float") / whole), y, i * sy)
