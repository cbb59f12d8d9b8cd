"""Layer normalization of the last axis, in two passes over a row: exact sums, then codes.

Vectors hold elements of one row where these are next to each other, else one element of each of 16 rows where the rows are.
"""

from collections.abc import Iterator
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axcompiler.strides import span
from axforge.axruntime.engines.host.codegen.epilogue import EpilogueParams, Finish, finish, finish64, read_epilogue
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, Var, lanes, vec
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, Params, R, Ref
from axforge.axruntime.engines.host.codegen.walk import Walked, walk

#: elements of a vector of float32, on all CPUs
LANES = 16


class NormalizeSpec(msgspec.Struct, frozen=True):
    """contiguous: the elements of a row are next to each other, in the operand and in the result; rows: else, at least so many rows are."""

    contiguous: bool
    rows: int
    finish: Finish


class NormalizeParams(Params[A, I, R], frozen=True, kw_only=True):
    """outer: sizes of the outer axes; count: elements of a row; rows: number of rows next to each other.

    multiplier, offset: float32 [count]; epsilon: as in `LayerNorm` of the fused graph.
    """

    family: ClassVar[str] = "normalize"
    spec: NormalizeSpec
    outer: tuple[I, ...]
    count: I
    rows: I
    x: Walked[A, I, R]
    y: Walked[A, I, R]
    multiplier: A
    offset: A
    epsilon: R
    epilogue: EpilogueParams[A, I, R]

    def extents(self: "NormalizeParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        shape = (*self.outer, self.rows, self.count)
        yield Extent(self.x.at, *span(shape, (*self.x.outer, 1, *self.x.inner)))
        yield Extent(self.y.at, *span(shape, (*self.y.outer, 1, *self.y.inner)), writes=True)
        for vector in (self.multiplier, self.offset):
            yield Extent(vector, 0, 4 * self.count)
        yield from self.epilogue.extents()


@kernel(NormalizeParams)
def build(f: Fn, p: NormalizeParams[Param, Param, Param]) -> None:
    """The kernel; threads share the positions of the outer axes."""
    body = _RowBody(f, p)
    with walk(f, p.outer, (p.x, p.y)) as (x, y):
        if p.spec.contiguous:
            body.row(x, y)
        else:
            body.columns(x, y, p.rows.get())


class _RowBody:
    """Bytes (code + 128) stand for codes everywhere: the normalization does not depend on what is added to all elements."""

    def __init__(self, f: Fn, p: NormalizeParams[Param, Param, Param]) -> None:
        self.f = f
        self.count, self.step_x, self.step_y = p.count.get(), p.x.inner[0].get(), p.y.inner[0].get()
        self.multiplier, self.offset = p.multiplier.get(), p.offset.get()
        self.epsilon = p.epsilon.get().cast("fpext", "double")
        self.size = self.count.cast("sitofp", "float")
        self.epilogue = read_epilogue(f, p.epilogue, p.spec.finish)
        self.lanes = min(p.spec.rows, LANES)

    # ------------------------------------------------------------ rows whose elements are next to each other

    def row(self, x: Val, y: Val) -> None:
        """One row."""
        total, squares = self._sums(x)
        root, mean = self._root(total, squares), total.cast("sitofp", "float")
        start = self.f.c(0)
        for width in (64, 16, 1) if self.f.isa.avx512 else (16, 1):
            whole = start + ((self.count - start) // width) * width
            with self.f.loop(start, whole, width) as i:
                self.f.store(self._codes(x, i, width, mean, root), y, i)
            start = whole

    def _sums(self, x: Val) -> tuple[Val, Val]:
        """The sum of the bytes of a row and that of their squares, int32."""
        f, width = self.f, self.f.isa.width // 16
        wide = vec(width // 2, "i32")
        totals, many = f.var(wide, f.c(0, wide)), f.var(wide, f.c(0, wide))
        whole = (self.count // width) * width
        with f.loop(0, whole, width) as i:
            first, second = self._sums_of(f.load(vec(width, "i8"), x, i))
            totals.set(totals.get() + first)
            many.set(many.get() + second)
        total, squares = (f.var("i32", f.call("i32", f"llvm.vector.reduce.add.v{width // 2}i32", v.get())) for v in (totals, many))
        with f.loop(whole, self.count) as i:
            self._add(total, squares, f.load("i8", x, i))
        return total.get(), squares.get()

    @staticmethod
    def _add(total: Var, squares: Var, data: Val) -> None:
        value = data.cast("zext", "i32")
        total.set(total.get() + value)
        squares.set(squares.get() + value * value)

    def _sums_of(self, data: Val) -> tuple[Val, Val]:
        """Sums of pairs of bytes and of their squares: int32, half as many lanes."""
        f, n = self.f, lanes(data.ty)
        if f.isa.width > 128:
            wide, one = data.cast("zext", "i16"), f.c(1, vec(n, "i16"))
            name = "llvm.x86.avx512.pmaddw.d.512" if f.isa.avx512 else "llvm.x86.avx2.pmadd.wd"
            return f.call(vec(n // 2, "i32"), name, wide, one), f.call(vec(n // 2, "i32"), name, wide, wide)
        low, high = (f.shuffle(data, data, range(i, i + n // 2)).cast("zext", "i32") for i in (0, n // 2))
        return low + high, low * low + high * high

    def _codes(self, x: Val, i: Val, width: int, mean: Val, root: Val) -> Val:
        """The codes of `width` elements from `i` on, as bytes."""
        f, part = self.f, min(width, LANES)

        def normalized(at: Val) -> Val:
            multiplier, offset = (f.load(vec(part, "float"), vector, at * 4) for vector in (self.multiplier, self.offset))
            return self._normalized(f.load(vec(part, "i8"), x, at), (mean.splat(part), root.splat(part)), multiplier, offset)

        values = [normalized(i + k) for k in range(0, width, part)]
        return finish64(f, self.epilogue, values) if width == 64 else finish(f, self.epilogue, values)[0]

    # ------------------------------------------------------------ rows that are next to each other

    def columns(self, x: Val, y: Val, rows: Val) -> None:
        """Several rows at once, one in each lane. The last vector overlaps the one before, which computes the same."""
        with self.f.loop(0, rows, self.lanes) as i:
            at = self.f.min(i, rows - self.lanes)
            self._column(self.f.at(x, at), self.f.at(y, at))

    def _column(self, x: Val, y: Val) -> None:
        f, n = self.f, self.lanes
        wide = vec(n, "i32")
        total, squares = f.var(wide, f.c(0, wide)), f.var(wide, f.c(0, wide))
        with f.loop(0, self.count) as i:
            self._add(total, squares, f.load(vec(n, "i8"), x, i * self.step_x))
        statistics = total.get().cast("sitofp", "float"), self._root(total.get(), squares.get())
        with f.loop(0, self.count) as i:
            multiplier, offset = (f.load("float", vector, i * 4).splat(n) for vector in (self.multiplier, self.offset))
            t = self._normalized(f.load(vec(n, "i8"), x, i * self.step_x), statistics, multiplier, offset)
            f.store(finish(f, self.epilogue, [t])[0], y, i * self.step_y)

    # ------------------------------------------------------------ arithmetic

    def _root(self, total: Val, squares: Val) -> Val:
        """r of `numerics.layer_norm_scaled`, for one row or one in each lane."""
        f, n = self.f, lanes(total.ty)
        total, squares = total.cast("sext", "i64"), squares.cast("sext", "i64")
        spread = (self.count.splat(n) * squares - total * total).cast("sitofp", "double") + self.epsilon.splat(n)
        above, one = spread.cmp("ogt", 0.0), f.c(1.0, spread.ty)
        root = f.call(spread.ty, f"llvm.sqrt.{f'v{n}' if n > 1 else ''}f64", f.select(above, spread, one))
        return f.select(above, one / root, f.c(0.0, spread.ty)).cast("fptrunc", "float")

    def _normalized(self, data: Val, statistics: tuple[Val, Val], multiplier: Val, offset: Val) -> Val:
        """float32 in units of the result's scale; statistics: sum and root.

        The product with the count and the difference are integers below 2**24, thus exact.
        """
        mean, root = statistics
        real = data.cast("zext", "i32").cast("sitofp", "float")
        return (real * self.size.splat(lanes(data.ty)) - mean) * root * multiplier + offset
