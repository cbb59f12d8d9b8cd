"""Operands of products of two activations: the second is packed as weights are, at run time, and both zero points become terms of sums.

With a' the activations as the product kernels take them (bytes, or signed where `Isa.offset` is 128), b the signed codes of the second
operand, and z their zero points, the sum over K of (a' - z_a) * (b - z_b) is

    sum(a' * b)  -  z_a * sum(b)  -  z_b * (sum(a') - K * z_a)

whose first part the kernels compute, whose second one is the bias of a column, and whose last one is a term of a row. All are int32 modulo
2**32, as the sum is.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axruntime.engines.host.codegen.epilogue import join
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, ParameterGroup, Params, R, Ref, TableRef

#: columns that are packed together, by one thread
COLUMNS = 16
_WORDS = "<16 x i32>"


class OwnOperands(ParameterGroup[A, I, R], frozen=True, kw_only=True):
    """What a product takes for images that have weights of their own.

    at: int64 [n, 3], byte offsets into weights, biases and terms of each image (`conv`) or tile of pixels (`amx`). terms: int32, one for
    each pixel, which is added to all its sums; None where there is nothing to add.
    """

    at: A
    terms: A | None = None

    def extents(self: "OwnOperands[Ref, int, np.float32]", count: int, pixels: int) -> Iterator[Extent]:
        """The bytes that `count` images or tiles of `pixels` pixels read."""
        assert isinstance(self.at, TableRef)
        yield Extent(self.at, 0, 24 * count)
        if self.terms is not None:
            first, last = self.at.ranges[2]
            yield Extent(self.terms, first, last + 4 * pixels)


# ---------------------------------------------------------------- the second operand


class PackSpec(msgspec.Struct, frozen=True):
    """by_row: the elements of a row are next to each other, else those of a column are; block: columns of a block of the product kernel."""

    by_row: bool
    block: int


class PackParams(Params[A, I, R], frozen=True, kw_only=True):
    """x: matrices of `depth` rows and `columns` columns, at the byte offsets `at` (int64); step: bytes from a row or a column to the next.

    y: packed, `blocks` blocks of `wstep` bytes for each matrix, with `words` groups of four products (zeros after the last row). bias:
    int32, one for each column of the blocks: -zero times the column's sum.
    """

    family: ClassVar[str] = "pack"
    spec: PackSpec
    x: A
    at: A
    y: A
    bias: A
    matrices: I
    step: I
    depth: I
    columns: I
    words: I
    blocks: I
    wstep: I
    zero: I

    def extents(self: "PackParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        assert isinstance(self.at, TableRef)
        ((first, last),) = self.at.ranges
        rows, length = (self.depth, self.columns) if self.spec.by_row else (self.columns, self.depth)
        yield Extent(self.x, first, last + (rows - 1) * self.step + length, spill=COLUMNS - 1)
        yield Extent(self.at, 0, 8 * self.matrices)
        # columns are packed 16 at a time, which may be more blocks than the columns need
        past = -(-self.columns // COLUMNS) * COLUMNS - self.blocks * self.spec.block
        blocks = self.matrices * self.blocks + max(0, -(-past // self.spec.block))
        yield Extent(self.y, 0, blocks * self.wstep, writes=True)
        yield Extent(self.bias, 0, 4 * blocks * self.spec.block, writes=True)


@kernel(PackParams)
def build_pack(f: Fn, params: PackParams[Param, Param, Param]) -> None:
    """The kernel; threads share bundles of 16 columns."""
    p: PackParams[Val, Val, Val] = f.values(params)
    bundles = (p.columns + COLUMNS - 1) // COLUMNS
    first, last = f.share(p.matrices * bundles)
    with f.loop(first, last) as item:
        matrix, column = item // bundles, (item % bundles) * COLUMNS
        _Packing(f, p, matrix, column).run()


class _Packing:
    """16 columns of one matrix. A group of four products of each of them is one vector of 64 bytes."""

    def __init__(self, f: Fn, p: PackParams[Val, Val, Val], matrix: Val, column: Val) -> None:
        self.f, self.p, self.block, self.column = f, p, p.spec.block, column
        self.x = f.at(p.x, f.load("i64", p.at, matrix * 8, align=8))
        self.y = f.at(p.y, matrix * p.blocks * p.wstep)
        self.bias = f.at(p.bias, (matrix * p.blocks * self.block + column) * 4)
        self.sums = f.var(_WORDS, f.c(0, _WORDS))
        #: groups that are stored together
        self.group = f.isa.group // 4 if f.isa.dot == "smull" else 1

    def run(self) -> None:
        """Packs the columns and writes their biases."""
        f, p = self.f, self.p
        many = self._many_by_row if p.spec.by_row else self._many_by_column
        last_group = self._last_by_row if p.spec.by_row else self._last_by_column
        whole = many()
        with f.loop(whole, p.words, self.group) as word:
            self._put(word, [last_group(word + i) for i in range(self.group)])
        f.store(self.sums.get() * (f.c(0) - p.zero).cast("trunc", "i32").splat(COLUMNS), self.bias)

    def _many_by_row(self) -> Val:
        """Packs whole groups; returns the number of the first one that is left."""
        whole = (self.p.depth // (4 * self.group)) * self.group
        with self.f.loop(0, whole, self.group) as word:
            self._put(word, [self._interleaved([self._row((word + i) * 4 + r) for r in range(4)]) for i in range(self.group)])
        return whole

    def _row(self, k: Val) -> Val:
        return self.f.load("<16 x i8>", self.x, k * self.p.step + self.column).bits("xor", -128)

    def _last_by_row(self, word: Val) -> Val:
        """A group with zeros after the last row."""
        f, rows = self.f, []
        for r in range(4):
            k = word * 4 + r
            value = self._row(f.min(k, self.p.depth - 1))
            rows.append(f.select(k.cmp("slt", self.p.depth), value, f.c(0, value.ty)))
        return self._interleaved(rows)

    def _interleaved(self, rows: Sequence[Val]) -> Val:
        """Four rows of 16 bytes -> the four bytes of each column."""
        f = self.f
        pairs = [f.shuffle(rows[i], rows[i + 1], [j + 16 * h for j in range(16) for h in range(2)]) for i in (0, 2)]
        low, high = (pair.cast("bitcast", "<16 x i16>") for pair in pairs)
        return f.shuffle(low, high, [j + 16 * h for j in range(16) for h in range(2)]).cast("bitcast", "<64 x i8>")

    def _many_by_column(self) -> Val:
        """Packs four groups at a time by a transposition of 16 columns of 16 bytes; returns the number of the first group that is left."""
        f = self.f
        whole = (self.p.depth // 16) * 4
        with f.loop(0, whole, 4) as word:
            columns = [f.load("<4 x i32>", self._start(c), word * 4) for c in range(COLUMNS)]
            fours = [join(f, columns[i : i + 4]) for i in range(0, COLUMNS, 4)]
            groups = []
            for w in range(4):
                halves = [f.shuffle(fours[i], fours[i + 1], [w + 4 * c for c in range(8)]) for i in (0, 2)]
                groups.append(join(f, halves).cast("bitcast", "<64 x i8>").bits("xor", -128))
            for i in range(0, 4, self.group):
                self._put(word + i, groups[i : i + self.group])
        return whole

    def _start(self, c: int) -> Val:
        """The address of a column; the last one stands in for those that do not exist."""
        return self.f.at(self.x, self.f.min(self.column + c, self.p.columns - 1) * self.p.step)

    def _last_by_column(self, word: Val) -> Val:
        """A group with zeros after the last row."""
        f = self.f
        k = f.min(word * 4, self.p.depth - 1)
        words = Val(f, _WORDS, "poison")
        for c in range(COLUMNS):
            four = f.load("i32", self._start(c), k)
            words = f.emit(_WORDS, f"insertelement {_WORDS} {words.ref}, i32 {four.ref}, i64 {c}")
        left = f.max(f.min(self.p.depth - word * 4, 4), 0)
        mask = (f.c(1).bits("shl", left * 8) - 1).cast("trunc", "i32")
        signed = words.cast("bitcast", "<64 x i8>").bits("xor", -128).cast("bitcast", _WORDS)
        return signed.bits("and", mask.splat(COLUMNS)).cast("bitcast", "<64 x i8>")

    # ------------------------------------------------------------ where the groups go

    def _put(self, word: Val, groups: Sequence[Val]) -> None:
        """Adds to the sums of the columns, and stores groups `word` and following as the path's product kernel reads them."""
        f, block = self.f, self.block
        for group in groups:
            self._add(group)
        column = self.column
        if f.isa.dot == "amx":
            across = block // 16
            tile = (word // 16) * across + (column // 16) % across
            f.store(groups[0], self.y, (column // block) * self.p.wstep + tile * 1024 + (word % 16) * 64)
            return
        if f.isa.dot == "smull":
            low, high = (group.cast("bitcast", _WORDS) for group in groups)
            for half in range(2):
                pair = f.shuffle(low, high, [8 * half + c + 16 * h for c in range(8) for h in range(2)])
                f.store(pair, self.y, (column // 8 + half) * self.p.wstep + word * 32)
            return
        at = (column // block) * self.p.wstep
        for i, part in enumerate(self._parts(groups[0])):
            f.store(part, self.y, at + (word * len(self._order()) + i) * (block * self._unit()) + (column % block) * self._unit())

    def _order(self) -> Sequence[Sequence[int]]:
        """The products of a group that are stored together, for each of the pieces that it is stored in."""
        return {"pair": ((0, 2), (1, 3)), "plain": ((0,), (1,), (2,), (3,))}.get(self.f.isa.dot, ((0, 1, 2, 3),))

    def _unit(self) -> int:
        """Bytes of a column in a piece."""
        return 4 if self.f.isa.dot != "plain" else 1

    def _parts(self, group: Val) -> list[Val]:
        f, order = self.f, self._order()
        if len(order) == 1:
            return [group]
        parts = [f.shuffle(group, group, [4 * c + k for c in range(COLUMNS) for k in piece]) for piece in order]
        return [part.cast("sext", "i16") for part in parts] if f.isa.dot == "pair" else parts

    def _add(self, group: Val) -> None:
        f = self.f
        if f.isa.avx512:
            total = f.call(_WORDS, "llvm.x86.avx512.vpdpbusd.512", self.sums.get(), f.c(1, "<64 x i8>"), group)
        else:
            words, total = group.cast("bitcast", _WORDS), self.sums.get()
            for left in (24, 16, 8, 0):
                total = total + words.bits("shl", left).bits("ashr", 24)
        self.sums.set(total)


# ---------------------------------------------------------------- the first operand


class RowTermsSpec(msgspec.Struct, frozen=True):
    """There is one way."""


class RowTermsParams(Params[A, I, R], frozen=True, kw_only=True):
    """x: matrices of `rows` rows, `step` bytes apart, of `depth` bytes, at the byte offsets `at` (int64).

    y: int32 [matrices, rows], factor times the sum of a row's bytes, plus `constant`.
    """

    family: ClassVar[str] = "row terms"
    spec: RowTermsSpec
    x: A
    at: A
    y: A
    matrices: I
    rows: I
    step: I
    depth: I
    factor: I
    constant: I

    def extents(self: "RowTermsParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        assert isinstance(self.at, TableRef)
        ((first, last),) = self.at.ranges
        yield Extent(self.x, first, last + (self.rows - 1) * self.step + self.depth)
        yield Extent(self.at, 0, 8 * self.matrices)
        yield Extent(self.y, 0, 4 * self.matrices * self.rows, writes=True)


@kernel(RowTermsParams)
def build_row_terms(f: Fn, params: RowTermsParams[Param, Param, Param]) -> None:
    """The kernel; threads share the rows."""
    p: RowTermsParams[Val, Val, Val] = f.values(params)
    first, last = f.share(p.matrices * p.rows)
    with f.loop(first, last) as item:
        x = f.at(f.at(p.x, f.load("i64", p.at, (item // p.rows) * 8, align=8)), (item % p.rows) * p.step)
        total = _sum_of_bytes(f, x, p.depth) * p.factor + p.constant
        f.store(total.cast("trunc", "i32"), p.y, item * 4, align=4)


def _sum_of_bytes(f: Fn, x: Val, count: Val) -> Val:
    """The sum of `count` unsigned bytes, as i64."""
    width = f.isa.width // 8 if f.isa.x86 else 16
    ty = f"<{width} x i8>"
    part = f"<{width // 8} x i64>" if f.isa.x86 else _WORDS
    totals = f.var(part, f.c(0, part))

    def add(data: Val) -> None:
        if f.isa.x86:
            name = "llvm.x86.avx512.psad.bw.512" if f.isa.avx512 else "llvm.x86.avx2.psad.bw"
            totals.set(totals.get() + f.call(part, name, data, f.c(0, ty)))
        else:
            totals.set(totals.get() + data.cast("zext", "i32"))

    whole = (count // width) * width
    with f.loop(0, whole, width) as i:
        add(f.load(ty, x, i))
    if f.isa.avx512:
        mask = f.iota(64, "i8").cmp("ult", (count - whole).cast("trunc", "i8").splat(64))
        add(f.call(ty, "llvm.masked.load.v64i8.p0", f.at(x, whole), "i32 1", mask, f.c(0, ty)))
        return f.call("i64", "llvm.vector.reduce.add.v8i64", totals.get())
    name = f"llvm.vector.reduce.add.{'v4i64' if f.isa.x86 else 'v16i32'}"
    total = f.call("i64" if f.isa.x86 else "i32", name, totals.get())
    rest = f.var("i64", total if f.isa.x86 else total.cast("zext", "i64"))
    with f.loop(whole, count) as i:
        rest.set(rest.get() + f.load("i8", x, i).cast("zext", "i64"))
    return rest.get()
