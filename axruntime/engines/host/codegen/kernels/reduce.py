"""Reductions over strided tensors of any rank: sums, maxima, softmax."""

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
    """op: 'sum', 'max' or 'softmax' (one reduced axis, which the result keeps); outer, inner: numbers of axes."""

    op: str
    outer: int
    inner: int
    table: bool = False


class ReduceParams(Params[A, I, R], frozen=True, kw_only=True):
    """outer, inner: sizes of the axes. zero: zero_point + 128 of the operand, for 'sum'.

    scale, epilogue: of the sum or the quotient, for all but 'max'; exponent: int32 [256], for 'softmax'.
    """

    family: ClassVar[str] = "reduce"
    spec: ReduceSpec
    outer: tuple[I, ...]
    inner: tuple[I, ...]
    x: Walked[A, I, R]
    y: Walked[A, I, R]
    zero: I | None = None
    scale: R | None = None
    exponent: A | None = None
    epilogue: EpilogueParams[A, I, R] | None = None

    def extents(self: "ReduceParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        yield Extent(self.x.at, *span((*self.outer, *self.inner), (*self.x.outer, *self.x.inner)))
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
    with walk(f, p.outer, (p.x, p.y)) as (x, y):
        body.run(x, y)


class _ReductionBody:
    def __init__(self, f: Fn, p: ReduceParams[Param, Param, Param]) -> None:
        self.f, self.p, self.s = f, p, p.spec
        self.zero = None if p.zero is None else p.zero.get().cast("trunc", "i32")
        self.m = None if p.scale is None else p.scale.get()
        self.e = None if p.epilogue is None else read_epilogue(f, p.epilogue, Finish(p.spec.table))

    def _finish(self, t: Val) -> Val:
        """The code for a float."""
        assert self.m is not None
        assert self.e is not None
        return finish(self.f, self.e, [t * self.m])[0]

    def run(self, x: Val, y: Val) -> None:
        f = self.f
        if self.s.op == "softmax":
            self._softmax(x, y)
            return
        acc = f.var("i32", f.c(0, "i32"))
        self._loops(x, 0, acc)
        if self.s.op == "max":
            f.store(acc.get().cast("trunc", "i8"), y)
        else:
            f.store(self._finish(acc.get().cast("sitofp", "float")), y)

    def _loops(self, x: Val, depth: int, acc: Var) -> None:
        """Nested loops over the reduced axes; the innermost adds one element to `acc`."""
        f, s = self.f, self.s
        if depth < s.inner:
            with f.loop(0, self.p.inner[depth].get()) as i:
                self._loops(f.at(x, i * self.p.x.inner[depth].get()), depth + 1, acc)
            return
        value = f.load("i8", x).cast("zext", "i32")
        if s.op == "max":
            acc.set(f.max(acc.get(), value))
        else:
            assert self.zero is not None
            acc.set(acc.get() + value - self.zero)

    def _softmax(self, x: Val, y: Val) -> None:
        f, p = self.f, self.p
        assert p.exponent is not None
        exp, n, sx, sy = p.exponent.get(), p.inner[0].get(), p.x.inner[0].get(), p.y.inner[0].get()
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
