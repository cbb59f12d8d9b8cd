"""Element-wise kernels and copies over strided tensors of any rank: the generic way to do everything that has no better one.

One kernel is specialised by what it does, by the number of outer axes, and by whether the inner axis is contiguous ('c'), constant ('0')
or strided ('s') in each operand. Index lists (constant gather, nearest resize) replace the stride of an axis of operand 0 by a table of
byte offsets.
"""

from collections.abc import Iterator
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axcompiler.strides import span
from axforge.axruntime.engines.host.codegen.epilogue import (
    EpilogueParams,
    Finish,
    LoadedEpilogue,
    finish,
    finish64,
    load_banks,
    lookup,
    read_epilogue,
    store_part,
)
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, lanes, vec
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, ParameterGroup, Params, R, Ref, TableRef

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


class NdSpec(msgspec.Struct, frozen=True):
    """op of OPS; outer: number of outer axes; inner: class of the inner axis of each operand and of the result; taken: which
    axes of operand 0 (outer ones, then the inner one) go through an index table; finish: of the epilogue.
    permute: the inner axis is gathered from 128 consecutive bytes, which AVX-512 VBMI does in a register."""

    op: str
    outer: int
    inner: str
    taken: tuple[bool, ...]
    finish: Finish
    permute: bool = False


class Strided(ParameterGroup[A, I, R], frozen=True, kw_only=True):
    """An operand or the result: its address, and the byte strides of the outer axes and of the inner one."""

    at: A
    outer: tuple[I, ...]
    inner: I


class NdParams(Params[A, I, R], frozen=True, kw_only=True):
    """n: elements of the inner axis; outer: sizes of the outer axes.

    tables: of every axis of operand 0, byte offsets instead of a stride (None where it has a stride); order: positions 0..127 of the
    permuted inner axis. value: the byte to fill with; table: 256 bytes; zeros: zero_point + 128 and scales: of each operand.
    """

    family: ClassVar[str] = "nd"
    spec: NdSpec
    n: I
    outer: tuple[I, ...]
    xs: tuple[Strided[A, I, R], ...]
    y: Strided[A, I, R]
    tables: tuple[A | None, ...]
    order: A | None = None
    value: I | None = None
    table: A | None = None
    zeros: tuple[I, ...] = ()
    scales: tuple[R, ...] = ()
    epilogue: EpilogueParams[A, I, R] | None = None

    def extents(self: "NdParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        _, size_in, size_out = OPS[self.spec.op]
        shape = (*self.outer, self.n)
        yield Extent(self.y.at, *span(shape, (*self.y.outer, self.y.inner), size_out), writes=True)
        for j, x in enumerate(self.xs):
            first, last = span(shape, (*x.outer, x.inner), size_in)
            taken = [index.ranges[0] for index in self.tables if isinstance(index, TableRef)] if j == 0 else []
            first, last = first + sum(low for low, _ in taken), last + sum(high for _, high in taken)
            # a permuted inner axis is loaded as 128 bytes
            yield Extent(x.at, first, last, spill=0 if self.order is None else 127)
        for count, index in zip(shape, self.tables, strict=True):
            if index is not None:
                yield Extent(index, 0, 8 * count)
        if self.order is not None:
            yield Extent(self.order, 0, -(-self.n // 64) * 64)
        if self.table is not None:
            yield Extent(self.table, 0, 256)
        if self.epilogue is not None:
            yield from self.epilogue.extents()


@kernel(NdParams)
def build(f: Fn, p: NdParams[Param, Param, Param]) -> None:
    """The kernel; threads share positions of the outer axes, or the inner axis if it is the only one.

    Sizes and strides are read where they are used: together they would not fit the registers.
    """
    s = p.spec
    xs, y = [x.at.get() for x in p.xs], p.y.at.get()
    body = _Body(f, p)
    n = p.n.get()
    if s.outer == 0:
        first, last = f.share(n)
        body.inner(xs, y, first, last)
        return
    across = p.outer[-1].get()
    total = across
    for size in p.outer[:-1]:
        total = total * size.get()
    first, last = f.share(total)
    # positions are divided into indices once for each row of the last outer axis
    with f.loop(first // across, (last + across - 1) // across) as row:
        rest, px, py = row, xs, y
        for i in reversed(range(s.outer - 1)):
            d = p.outer[i].get()
            at, rest = (rest % d, rest // d) if i else (rest, rest)
            px, py = body.advance(px, py, i, at)
        begin = f.max(first - row * across, 0)
        with f.loop(begin, f.min(last - row * across, across)) as at:
            qx, qy = body.advance(px, py, s.outer - 1, at)
            body.inner(qx, qy, f.c(0), n)


def _permute(f: Fn, x: Val, y: Val, order: Val, n: Val) -> None:
    """y[i] = x[order[i]] for order in 0..127."""
    low, high = f.load("<64 x i8>", x), f.load("<64 x i8>", x, 64)
    with f.loop(0, n, 64) as i:
        index = f.load("<64 x i8>", order, i)
        store_part(f, f.call("<64 x i8>", "llvm.x86.avx512.vpermi2var.qi.512", low, index, high), f.at(y, i), n - i)


def _read(f: Fn, x: Val, offset: Val, width: int, kind: str, size: int) -> Val:
    ty = "i32" if size == 4 else "i8"
    return f.load(vec(width, ty), x, offset) if kind == "c" else f.load(ty, x).splat(width)


class _Body:
    """What happens to an element; constants are read once."""

    def __init__(self, f: Fn, p: NdParams[Param, Param, Param]) -> None:
        self.f, self.p, self.s = f, p, p.spec
        self.tables = [None if t is None else t.get() for t in p.tables]
        self.z = [z.get().cast("trunc", "i32") for z in p.zeros]
        self.m = [scale.get() for scale in p.scales]
        self.value = None if p.value is None else p.value.get().cast("trunc", "i8")
        self.e: LoadedEpilogue | None = None if p.epilogue is None else read_epilogue(f, p.epilogue, p.spec.finish)
        self.table = None if p.table is None else p.table.get()
        self.banks = () if self.table is None else load_banks(f, self.table)

    def advance(self, px: list[Val], py: Val, axis: int, at: Val) -> tuple[list[Val], Val]:
        """Addresses moved to index `at` of an outer axis; operand 0 by its table if it has one."""
        f, p = self.f, self.p
        out = []
        for j, x in enumerate(px):
            table = self.tables[axis] if j == 0 else None
            step = f.load("i64", table, at * 8) if table is not None else at * p.xs[j].outer[axis].get()
            out.append(f.at(x, step))
        return out, f.at(py, at * p.y.outer[axis].get())

    def inner(self, xs: list[Val], y: Val, first: Val, last: Val) -> None:
        """Elements [first, last) of the inner axis: by vectors where all operands are contiguous or constant, the rest one by one."""
        f, s, p = self.f, self.s, self.p
        _, size_in, _ = OPS[s.op]
        table = self.tables[-1]
        if p.order is not None:
            _permute(f, xs[0], y, p.order.get(), p.n.get())
            return
        start = first
        if "s" not in s.inner and table is None:
            start = self._vectors(xs, y, first, last)
        with f.loop(start, last) as i:
            parts = []
            for j, x in enumerate(xs):
                step = f.load("i64", table, i * 8) if table is not None and j == 0 else i * p.xs[j].inner.get()
                parts.append(f.load("i32" if size_in == 4 else "i8", x, step))
            f.store(self.apply(parts, 1), y, i * p.y.inner.get())

    def _vectors(self, xs: list[Val], y: Val, first: Val, last: Val) -> Val:
        """Whole vectors from `first` on; where they end."""
        f, s = self.f, self.s
        _, size_in, size_out = OPS[s.op]
        start = first
        if f.isa.avx512 and s.op in ("add", "mul") and s.finish.small:
            assert self.e is not None
            whole = start + ((last - start) // 64) * 64
            with f.loop(start, whole, 64) as i:
                sums = []
                for q in range(4):
                    parts = [_read(f, x, i + 16 * q if c == "c" else f.c(0), 16, c, 1) for x, c in zip(xs, s.inner, strict=False)]
                    sums.append(self.product(parts, 16))
                f.store(finish64(f, self.e, sums), y, i)
            start = whole
        for width in (64, 16) if s.op in ("fill", "copy", "flip", "table") else (16,):
            whole = start + ((last - start) // width) * width
            with f.loop(start, whole, width) as i:
                parts = [_read(f, x, i * size_in if c == "c" else f.c(0), width, c, size_in) for x, c in zip(xs, s.inner, strict=False)]
                f.store(self.apply(parts, width), y, i * size_out)
            start = whole
        return start

    def _centred(self, x: Val, i: int) -> Val:
        """int32 code - zero point (z holds zero_point + 128)."""
        return x.cast("zext", "i32") - self.z[i].splat(lanes(x.ty))

    def apply(self, xs: list[Val], n: int) -> Val:
        f, op = self.f, self.s.op
        if op == "fill":
            assert self.value is not None
            return self.value.splat(n)
        if op == "copy":
            return xs[0]
        if op == "flip":
            return xs[0].bits("xor", -128)
        if op == "table":
            assert self.table is not None
            return lookup(f, self.table, self.banks, xs[0])
        if op == "quantize":
            return self._quantize(xs[0].cast("bitcast", vec(n, "float")), n)
        if op == "dequantize":
            return (self._centred(xs[0], 0).cast("sitofp", "float") * self.m[0].splat(n)).cast("bitcast", vec(n, "i32"))
        assert self.e is not None
        return finish(f, self.e, [self.product(xs, n)])[0]

    def product(self, xs: list[Val], n: int) -> Val:
        """What `add` and `mul` requantize."""
        a, b = self._centred(xs[0], 0), self._centred(xs[1], 1)
        if self.s.op == "mul":
            return (a * b).cast("sitofp", "float") * self.m[0].splat(n)
        return a.cast("sitofp", "float") * self.m[0].splat(n) + b.cast("sitofp", "float") * self.m[1].splat(n)

    def _quantize(self, x: Val, n: int) -> Val:
        """`numerics.quantize`: a division, and NaN is 0."""
        assert self.e is not None
        t = x / self.m[0].splat(n)
        t = self.f.select(t.cmp("uno", 0.0), self.f.c(0.0, t.ty), t)
        return finish(self.f, self.e, [t])[0]
