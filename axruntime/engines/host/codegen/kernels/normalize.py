"""Layer normalization of the last axis, one row at a time: exact sums in the first pass over a row, codes in the second."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from axforge.axcompiler.strides import span
from axforge.axruntime.engines.host.codegen.epilogue import EpilogueParams, Finish, finish, finish64, read_epilogue
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, lanes, vec
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, Params, R, Ref
from axforge.axruntime.engines.host.codegen.walk import Walked, walk
from axforge.axruntime.engines.host.features import Isa


@dataclass(frozen=True)
class NormalizeSpec:
    """contiguous: the elements of a row are next to each other, in the operand and in the result."""

    contiguous: bool
    finish: Finish


@dataclass(frozen=True, kw_only=True)
class NormalizeParams(Params[A, I, R]):
    """outer: sizes of the outer axes; count: elements of a row. multiplier, offset: float32 [count]; epsilon: as in `ir.LayerNorm`."""

    family: ClassVar[str] = "normalize"
    spec: NormalizeSpec
    outer: tuple[I, ...]
    count: I
    x: Walked[A, I, R]
    y: Walked[A, I, R]
    multiplier: A
    offset: A
    epsilon: R
    epilogue: EpilogueParams[A, I, R]

    def extents(self: "NormalizeParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        shape = (*self.outer, self.count)
        yield Extent(self.x.at, *span(shape, (*self.x.outer, *self.x.inner)))
        yield Extent(self.y.at, *span(shape, (*self.y.outer, *self.y.inner)), writes=True)
        for vector in (self.multiplier, self.offset):
            yield Extent(vector, 0, 4 * self.count)
        yield from self.epilogue.extents()


@kernel(NormalizeParams)
def build(f: Fn, p: NormalizeParams[Param, Param, Param]) -> None:
    """The kernel; threads share the rows."""
    row = _Row(f, p)
    with walk(f, p.outer, (p.x, p.y)) as (x, y):
        row.run(x, y)


class _Row:
    """One row. Bytes (code + 128) stand for codes everywhere: the normalization does not depend on what is added to all elements."""

    def __init__(self, f: Fn, p: NormalizeParams[Param, Param, Param]) -> None:
        self.f, self.spec = f, p.spec
        self.count, self.step_x, self.step_y = p.count.get(), p.x.inner[0].get(), p.y.inner[0].get()
        self.multiplier, self.offset = p.multiplier.get(), p.offset.get()
        self.epsilon = p.epsilon.get().cast("fpext", "double")
        self.size = self.count.cast("sitofp", "float")
        self.epilogue = read_epilogue(f, p.epilogue, p.spec.finish)

    def run(self, x: Val, y: Val) -> None:
        """Both passes."""
        total, squares = self._sums(x)
        root = self._root(total, squares)
        mean = total.cast("sitofp", "float")
        start = self.f.c(0)
        if self.spec.contiguous:
            for width in (64, 16) if self.f.isa.avx512 else (16,):
                whole = start + ((self.count - start) // width) * width
                with self.f.loop(start, whole, width) as i:
                    self.f.store(self._codes(x, i, width, mean, root), y, i)
                start = whole
        with self.f.loop(start, self.count) as i:
            byte = self.f.load("i8", x, i * self.step_x)
            self.f.store(finish(self.f, self.epilogue, [self._normalized(byte, i, mean, root)])[0], y, i * self.step_y)

    # ------------------------------------------------------------ first pass

    def _sums(self, x: Val) -> tuple[Val, Val]:
        """The sum of the bytes of a row and that of their squares, int32."""
        f = self.f
        total, squares, start = f.var("i32", f.c(0, "i32")), f.var("i32", f.c(0, "i32")), f.c(0)
        if self.spec.contiguous:
            width = f.isa.width // 16
            wide = vec(width // 2, "i32")
            totals, many = f.var(wide, f.c(0, wide)), f.var(wide, f.c(0, wide))
            start = (self.count // width) * width
            with f.loop(0, start, width) as i:
                first, second = self._sums_of(f.load(vec(width, "i8"), x, i))
                totals.set(totals.get() + first)
                many.set(many.get() + second)
            for scalar, vector in ((total, totals), (squares, many)):
                scalar.set(f.call("i32", f"llvm.vector.reduce.add.v{width // 2}i32", vector.get()))
        with f.loop(start, self.count) as i:
            byte = f.load("i8", x, i * self.step_x).cast("zext", "i32")
            total.set(total.get() + byte)
            squares.set(squares.get() + byte * byte)
        return total.get(), squares.get()

    def _sums_of(self, data: Val) -> tuple[Val, Val]:
        """Sums of pairs of bytes and of their squares: int32, half as many lanes."""
        f, n = self.f, lanes(data.ty)
        if f.isa.width > 128:
            wide, one = data.cast("zext", "i16"), f.c(1, vec(n, "i16"))
            name = "llvm.x86.avx512.pmaddw.d.512" if f.isa.avx512 else "llvm.x86.avx2.pmadd.wd"
            return f.call(vec(n // 2, "i32"), name, wide, one), f.call(vec(n // 2, "i32"), name, wide, wide)
        low, high = (f.shuffle(data, data, range(i, i + n // 2)).cast("zext", "i32") for i in (0, n // 2))
        return low + high, low * low + high * high

    def _root(self, total: Val, squares: Val) -> Val:
        """r of `numerics.layer_norm_scaled`."""
        f = self.f
        total, squares = total.cast("sext", "i64"), squares.cast("sext", "i64")
        spread = (self.count * squares - total * total).cast("sitofp", "double") + self.epsilon
        above = spread.cmp("ogt", 0.0)
        root = f.call("double", "llvm.sqrt.f64", f.select(above, spread, f.c(1.0, "double")))
        return f.select(above, f.c(1.0, "double") / root, f.c(0.0, "double")).cast("fptrunc", "float")

    # ------------------------------------------------------------ second pass

    def _codes(self, x: Val, i: Val, width: int, mean: Val, root: Val) -> Val:
        """The codes of `width` elements from `i` on, as bytes."""
        f, part = self.f, min(width, 16)
        values = [self._normalized(f.load(vec(part, "i8"), x, i + k), i + k, mean, root) for k in range(0, width, part)]
        return finish64(f, self.epilogue, values) if width == 64 else finish(f, self.epilogue, values)[0]

    def _normalized(self, data: Val, i: Val, mean: Val, root: Val) -> Val:
        """float32 in units of the result's scale. The product with the count and the difference are integers below 2**24, thus exact."""
        f, n = self.f, lanes(data.ty)
        real = data.cast("zext", "i32").cast("sitofp", "float")
        centred = real * self.size.splat(n) - mean.splat(n)
        multiplier, offset = (f.load(vec(n, "float"), vector, i * 4) for vector in (self.multiplier, self.offset))
        return centred * root.splat(n) * multiplier + offset
