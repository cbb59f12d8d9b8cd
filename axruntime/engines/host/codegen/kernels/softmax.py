"""Softmax of rows whose elements are next to each other, in three passes over a row: the largest code, the sum, the quotients.

An exponential is looked up by the distance of a code from the largest one, as two bytes, because look-ups of bytes stay in registers.
"""

from collections.abc import Iterator
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axcompiler.strides import span
from axforge.axruntime.engines.host.codegen.epilogue import EpilogueParams, Finish, finish, finish64, load_banks, lookup, read_epilogue
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, lanes, vec
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, Params, R, Ref
from axforge.axruntime.engines.host.codegen.walk import Walked, walk

#: elements of a vector of int32 or float32, on all CPUs
LANES = 16


class SoftmaxSpec(msgspec.Struct, frozen=True):
    """short: a row has fewer elements than a vector."""

    short: bool
    finish: Finish


class SoftmaxParams(Params[A, I, R], frozen=True, kw_only=True):
    """outer: sizes of the outer axes; count: elements of a row. low, high: the two bytes of the exponential of each distance.

    Exponentials are not negative, that of distance 0 is positive, and the sum of a row is below 2**31.
    """

    family: ClassVar[str] = "softmax"
    spec: SoftmaxSpec
    outer: tuple[I, ...]
    count: I
    x: Walked[A, I, R]
    y: Walked[A, I, R]
    low: A
    high: A
    scale: R
    epilogue: EpilogueParams[A, I, R]

    def extents(self: "SoftmaxParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        shape = (*self.outer, self.count)
        yield Extent(self.x.at, *span(shape, (*self.x.outer, 1)))
        yield Extent(self.y.at, *span(shape, (*self.y.outer, 1)), writes=True)
        for table in (self.low, self.high):
            yield Extent(table, 0, 256)
        yield from self.epilogue.extents()


@kernel(SoftmaxParams)
def build(f: Fn, p: SoftmaxParams[Param, Param, Param]) -> None:
    """The kernel; threads share the positions of the outer axes."""
    body = _SoftmaxRow(f, p)
    with walk(f, p.outer, (p.x, p.y)) as (x, y):
        body.row(x, y)


class _SoftmaxRow:
    def __init__(self, f: Fn, p: SoftmaxParams[Param, Param, Param]) -> None:
        self.f, self.spec = f, p.spec
        self.count, self.scale = p.count.get(), p.scale.get()
        self.tables = [(table.get(), load_banks(f, table.get())) for table in (p.low, p.high)]
        self.epilogue = read_epilogue(f, p.epilogue, p.spec.finish)

    def row(self, x: Val, y: Val) -> None:
        """One row."""
        top = self._largest(x)
        total = self._sum(x, top).cast("sitofp", "float")
        f, start = self.f, self.f.c(0)
        for width in (64, LANES) if f.isa.avx512 else (LANES,):
            if not self.spec.short:
                whole = start + ((self.count - start) // width) * width
                with f.loop(start, whole, width) as i:
                    f.store(self._codes(x, i, width, top, total), y, i)
                start = whole
        if self.spec.short:
            with f.loop(0, self.count) as i:
                f.store(self._codes(x, i, 1, top, total), y, i)
        else:  # the last vector overlaps the one before, which has given the same
            with f.if_(start.cmp("slt", self.count)):
                last = self.count - LANES
                f.store(self._codes(x, last, LANES, top, total), y, last)

    def _largest(self, x: Val) -> Val:
        """The largest byte of a row."""
        f = self.f
        if self.spec.short:
            best = f.var("i8", f.c(0, "i8"))
            with f.loop(0, self.count) as i:
                code = f.load("i8", x, i)
                best.set(f.select(code.cmp("ugt", best.get()), code, best.get()))
            return best.get()
        width = vec(LANES, "i8")
        many = f.var(width, f.load(width, x, self.count - LANES))
        with f.loop(0, (self.count // LANES) * LANES, LANES) as i:
            many.set(f.call(width, f"llvm.umax.v{LANES}i8", many.get(), f.load(width, x, i)))
        return f.call("i8", f"llvm.vector.reduce.umax.v{LANES}i8", many.get())

    def _sum(self, x: Val, top: Val) -> Val:
        """The sum of the exponentials of a row, int32."""
        f = self.f
        if self.spec.short:
            total = f.var("i32", f.c(0, "i32"))
            with f.loop(0, self.count) as i:
                total.set(total.get() + self._exponentials(f.load("i8", x, i), top)[0])
            return total.get()
        wide, start = vec(LANES, "i32"), f.c(0)
        totals = f.var(wide, f.c(0, wide))
        for width in (64, LANES) if f.isa.avx512 else (LANES,):
            whole = start + ((self.count - start) // width) * width
            with f.loop(start, whole, width) as i:
                for part in self._exponentials(f.load(vec(width, "i8"), x, i), top):
                    totals.set(totals.get() + part)
            start = whole
        with f.if_(start.cmp("slt", self.count)):
            last = self.count - LANES
            (part,) = self._exponentials(f.load(vec(LANES, "i8"), x, last), top)
            # lanes before `start` have been counted
            fresh = f.iota(LANES, "i32").cmp("sge", (start - last).cast("trunc", "i32").splat(LANES))
            totals.set(totals.get() + f.select(fresh, part, f.c(0, wide)))
        return f.call("i32", f"llvm.vector.reduce.add.v{LANES}i32", totals.get())

    def _exponentials(self, code: Val, top: Val) -> list[Val]:
        """The exponentials of some codes, as vectors of int32."""
        f, n = self.f, lanes(code.ty)
        distance = top.splat(n) - code
        low, high = (lookup(f, table, banks, distance) for table, banks in self.tables)
        parts = []
        for i in range(0, n, LANES):
            pair = [v if n <= LANES else f.shuffle(v, v, range(i, i + LANES)) for v in (low, high)]
            words = [v.cast("zext", "i32") for v in pair]
            parts.append(words[0] + words[1].bits("shl", 8))
        return parts

    def _codes(self, x: Val, i: Val, width: int, top: Val, total: Val) -> Val:
        """The codes of `width` elements from `i` on, as bytes."""
        f, n = self.f, min(width, LANES)
        exponentials = self._exponentials(f.load(vec(width, "i8"), x, i), top)
        values = [e.cast("sitofp", "float") / total.splat(n) * self.scale.splat(n) for e in exponentials]
        return finish64(f, self.epilogue, values) if width == 64 else finish(f, self.epilogue, values)[0]
