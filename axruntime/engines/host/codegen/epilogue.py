"""From accumulators to codes, as `numerics.requantize` defines it, and table look-ups. Shared by all kernels.

A code is a byte, code + 128. Clamping comes before rounding: both bounds are integers, so the order does not matter, and a clamped
value can be rounded by adding 1.5 * 2**23: the sum's low mantissa bits are the integer, rounded half to even, on every CPU.
The clamp's comparisons let NaN through, whose low byte is then 0 as in NumPy's conversion on x86.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, lanes, vec
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, ParameterGroup, R, Ref

#: 1.5 * 2**23
MAGIC = 12582912.0


class EpilogueParams(ParameterGroup[A, I, R], frozen=True, kw_only=True):
    """lo, hi: bounds less the zero point; shift: zero_point + 128; table: 256 bytes, indexed by code + 128."""

    lo: R
    hi: R
    shift: I
    table: A | None = None

    def extents(self: "EpilogueParams[Ref, int, np.float32]") -> Iterator[Extent]:
        """The bytes that an epilogue reads."""
        if self.table is not None:
            yield Extent(self.table, 0, 256)


class Finish(msgspec.Struct, frozen=True):
    """What an epilogue needs: a table; `clamp`, bounds other than -128 and 127; `small`, no value reaches 2**31 in magnitude."""

    table: bool = False
    clamp: bool = True
    small: bool = False


class LoadedEpilogue(msgspec.Struct):
    """Constants of one epilogue, loaded once in each call of a kernel. banks: the table in registers; lowest, highest: bounds as bytes."""

    lo: Val
    hi: Val
    shift: Val
    table: Val | None
    banks: tuple[Val, ...] = ()
    lowest: Val | None = None
    highest: Val | None = None
    clamp: bool = True
    small: bool = False


def read_epilogue(f: Fn, params: EpilogueParams[Param, Param, Param], kind: Finish) -> LoadedEpilogue:
    """Reads the parameters of an epilogue here."""
    values: EpilogueParams[Val, Val, Val] = f.values(params)
    return load_epilogue(f, values, kind)


def load_epilogue(f: Fn, p: EpilogueParams[Val, Val, Val], kind: Finish) -> LoadedEpilogue:
    """The constants of an epilogue from its parameters."""
    assert (p.table is not None) == kind.table
    e = LoadedEpilogue(p.lo, p.hi, p.shift.cast("trunc", "i8"), p.table)
    if e.table is not None:
        e.banks = load_banks(f, e.table)
    if f.isa.x86 or f.isa.arm:
        e.lowest, e.highest = (v.cast("fptosi", "i32").cast("trunc", "i8") + e.shift for v in (e.lo, e.hi))
        e.clamp, e.small = kind.clamp, kind.small
    return e


def load_banks(f: Fn, table: Val) -> tuple[Val, ...]:
    """A table as the path looks it up: in four registers of AVX-512 VBMI, by `_differences` of AVX2, or in memory by tbl; () on
    other paths."""
    if f.isa.arm:
        return (table,)
    if f.isa.avx2:
        return (_differences(f, table),)
    return tuple(f.load("<64 x i8>", table, 64 * i) for i in range(4)) if f.isa.vbmi else ()


def _differences(f: Fn, table: Val) -> Val:
    """A copy of a table whose rows of 16 bytes, but the first of each half, are the exclusive or of the row with the one before it."""
    out = f.buffer(256)
    rows = [f.load("<16 x i8>", table, 16 * i) for i in range(16)]
    for i, row in enumerate(rows):
        f.store(row if i % 8 == 0 else row.bits("xor", rows[i - 1]), out, 16 * i, align=16)
    return out


def requantize(f: Fn, e: LoadedEpilogue, t: Val) -> Val:
    """t: float32, one or more lanes -> bytes, before the table."""
    n = lanes(t.ty)
    lo, hi = e.lo.splat(n), e.hi.splat(n)
    t = f.select(lo.cmp("ogt", t), lo, t)
    t = f.select(hi.cmp("olt", t), hi, t)
    code = (t + MAGIC).cast("bitcast", vec(n, "i32")).cast("trunc", "i8")
    return code + e.shift.splat(n)


def lookup(f: Fn, table: Val, banks: Sequence[Val], code: Val) -> Val:
    """table[code] for each lane; `banks` are what `load_banks` gave."""
    n = lanes(code.ty)
    if f.isa.avx2 and banks and n >= 16:
        return _lookup_bytes(f, banks[0], code)
    if f.isa.arm and n >= 16:
        return join(f, [_lookup_rows(f, table, part) for part in split(f, code, n // 16)])
    if not banks or n < 16:
        out = Val(f, code.ty, "poison")
        for i in range(n):
            value = f.load("i8", table, code.lane(i).cast("zext", "i64"))
            out = value if n == 1 else f.emit(code.ty, f"insertelement {code.ty} {out.ref}, i8 {value.ref}, i64 {i}")
        return out
    wide = code if n == 64 else f.shuffle(code, code, [i % n for i in range(64)])
    halves = [f.call("<64 x i8>", "llvm.x86.avx512.vpermi2var.qi.512", banks[2 * i], wide, banks[2 * i + 1]) for i in range(2)]
    out = f.select(wide.cmp("slt", 0), halves[1], halves[0])
    return out if n == 64 else f.shuffle(out, out, range(n))


def _lookup_bytes(f: Fn, differences: Val, code: Val) -> Val:
    """16 or more look-ups by byte shuffles, which give 0 for an index with the top bit set.

    An index in row r of a half meets the rows 0 to r of that half, less 16 for each row, and is negative from then on; the exclusive or
    of their differences is row r. Saturation keeps negative indices negative.
    """
    n = lanes(code.ty)
    if n > 32:
        parts = [_lookup_bytes(f, differences, part) for part in split(f, code, n // 32)]
        return join(f, parts)
    shuffle = "llvm.x86.avx2.pshuf.b" if n == 32 else "llvm.x86.ssse3.pshuf.b.128"
    out: Val | None = None
    for half in range(2):
        index = code.bits("xor", -128) if half else code
        for i in range(8):
            row = f.load("<16 x i8>", differences, 128 * half + 16 * i, align=16)
            wide = row if n == 16 else f.shuffle(row, row, [j % 16 for j in range(32)])
            found = f.call(code.ty, shuffle, wide, index)
            out = found if out is None else out.bits("xor", found)
            index = f.call(code.ty, f"llvm.ssub.sat.v{n}i8", index, f.c(16, code.ty))
    assert out is not None
    return out


def _lookup_rows(f: Fn, table: Val, code: Val) -> Val:
    """16 look-ups by tbl and tbx in 64 bytes at a time, which leave lanes alone whose index is larger."""
    rows = [f.load("<16 x i8>", table, 16 * i) for i in range(16)]
    out = f.call("<16 x i8>", "llvm.aarch64.neon.tbl4.v16i8", *rows[:4], code)
    for i in range(1, 4):
        out = f.call("<16 x i8>", "llvm.aarch64.neon.tbx4.v16i8", out, *rows[4 * i : 4 * i + 4], code - 64 * i)
    return out


def finish(f: Fn, e: LoadedEpilogue, values: Sequence[Val]) -> list[Val]:
    """Requantizes several vectors of equal width; 64 or 32 bytes at a time where the CPU can. One of several values may not be NaN."""
    n = lanes(values[0].ty)
    out: list[Val] = []
    if f.isa.avx2 and n in (8, 16) and (e.small or len(values) > 1):
        return _finish_together(f, e, values, 8, finish32)
    if f.isa.arm and n in (4, 8, 16) and (e.small or len(values) > 1):
        return _finish_together(f, e, values, 4, _finish16)
    if f.isa.avx512 and n == 16 and len(values) > 1:
        for i in range(0, len(values), 4):
            part = list(values[i : i + 4])
            out += split(f, finish64(f, e, part + part[-1:] * (4 - len(part))), 4)[: len(part)]
        return out
    for t in values:
        code = requantize(f, e, t)
        out.append(code if e.table is None else lookup(f, e.table, e.banks, code))
    return out


#: byte i of the natural order of four vectors is byte PACKED[i] after two rounds of packing, which work in 16-byte lanes
PACKED = tuple(16 * (i % 16 // 4) + 4 * (i // 16) + i % 4 for i in range(64))


def finish64(f: Fn, e: LoadedEpilogue, values: Sequence[Val], *, natural: bool = True) -> Val:
    """Four vectors of 16 -> 64 bytes, by AVX-512; in the order of PACKED if not `natural`. No value may be NaN.

    Packing saturates at both ends, and an underflowing conversion gives INT_MIN. Only an overflow would go wrong: where values may
    reach 2**31 the upper bound is taken in float. Other bounds are taken on bytes.
    """
    assert e.lowest is not None
    assert e.highest is not None
    words = []
    for t in values:
        low = t if e.small else f.call("<16 x float>", "llvm.x86.avx512.min.ps.512", e.hi.splat(16), t, "i32 4")
        words.append(f.call("<16 x i32>", "llvm.x86.avx512.mask.cvtps2dq.512", low, f.c(0, "<16 x i32>"), "i16 -1", "i32 4"))
    shift = e.shift.cast("zext", "i16").splat(32)
    halves = []
    for i in (0, 2):
        pair = f.call("<32 x i16>", "llvm.x86.avx512.packssdw.512", words[i], words[i + 1])
        halves.append(f.call("<32 x i16>", "llvm.sadd.sat.v32i16", pair, shift))
    code = f.call("<64 x i8>", "llvm.x86.avx512.packuswb.512", halves[0], halves[1])
    if e.clamp:
        code = f.call("<64 x i8>", "llvm.umax.v64i8", code, e.lowest.splat(64))
        code = f.call("<64 x i8>", "llvm.umin.v64i8", code, e.highest.splat(64))
    if natural:
        code = f.shuffle(code, code, PACKED)
    return code if e.table is None else lookup(f, e.table, e.banks, code)


def _finish_together(
    f: Fn, e: LoadedEpilogue, values: Sequence[Val], size: int, four: Callable[[Fn, LoadedEpilogue, Sequence[Val]], Val]
) -> list[Val]:
    """`finish` of vectors that are cut into registers of `size` lanes, by a function for four registers."""
    n = lanes(values[0].ty)
    registers = [part for t in values for part in split(f, t, n // size)]
    codes: list[Val] = []
    for i in range(0, len(registers), 4):
        part = registers[i : i + 4]
        codes += split(f, four(f, e, part + part[-1:] * (4 - len(part))), 4)[: len(part)]
    return [join(f, codes[i : i + n // size]) for i in range(0, len(codes), n // size)]


def _finish16(f: Fn, e: LoadedEpilogue, values: Sequence[Val]) -> Val:
    """Four vectors of 4 -> 16 bytes by aarch64: conversion to even with saturation, then narrowing with saturation twice."""
    assert e.lowest is not None
    assert e.highest is not None
    shift, halves = e.shift.cast("zext", "i16").splat(8), []
    for i in (0, 2):
        words = [f.call("<4 x i32>", "llvm.aarch64.neon.fcvtns.v4i32.v4f32", t) for t in values[i : i + 2]]
        pair = join(f, [f.call("<4 x i16>", "llvm.aarch64.neon.sqxtn.v4i16", w) for w in words])
        halves.append(f.call("<8 x i8>", "llvm.aarch64.neon.sqxtun.v8i8", f.call("<8 x i16>", "llvm.sadd.sat.v8i16", pair, shift)))
    code = join(f, halves)
    if e.clamp:
        code = f.call("<16 x i8>", "llvm.umax.v16i8", code, e.lowest.splat(16))
        code = f.call("<16 x i8>", "llvm.umin.v16i8", code, e.highest.splat(16))
    return code if e.table is None else lookup(f, e.table, e.banks, code)


#: byte i of the natural order of four vectors of 8 is byte PACKED32[i] after two rounds of packing
PACKED32 = tuple(16 * (i % 8 // 4) + 4 * (i // 8) + i % 4 for i in range(32))


def finish32(f: Fn, e: LoadedEpilogue, values: Sequence[Val], *, natural: bool = True) -> Val:
    """Four vectors of 8 -> 32 bytes by AVX2, in the same way as `finish64`; in the order of PACKED32 if not `natural`."""
    assert e.lowest is not None
    assert e.highest is not None
    words = []
    for t in values:
        low = t if e.small else f.call("<8 x float>", "llvm.x86.avx.min.ps.256", e.hi.splat(8), t)
        words.append(f.call("<8 x i32>", "llvm.x86.avx.cvt.ps2dq.256", low))
    shift = e.shift.cast("zext", "i16").splat(16)
    halves = []
    for i in (0, 2):
        pair = f.call("<16 x i16>", "llvm.x86.avx2.packssdw", words[i], words[i + 1])
        halves.append(f.call("<16 x i16>", "llvm.sadd.sat.v16i16", pair, shift))
    code = f.call("<32 x i8>", "llvm.x86.avx2.packuswb", halves[0], halves[1])
    if e.clamp:
        code = f.call("<32 x i8>", "llvm.umax.v32i8", code, e.lowest.splat(32))
        code = f.call("<32 x i8>", "llvm.umin.v32i8", code, e.highest.splat(32))
    if natural:
        code = f.shuffle(code, code, PACKED32)
    return code if e.table is None else lookup(f, e.table, e.banks, code)


def join(f: Fn, parts: Sequence[Val]) -> Val:
    """Vectors one after the other in one vector; an odd one out is joined with itself."""
    row = list(parts)
    while len(row) > 1:
        if len(row) % 2:
            row.append(row[-1])
        n = lanes(row[0].ty)
        row = [f.shuffle(row[i], row[i + 1], range(2 * n)) for i in range(0, len(row), 2)]
    return row[0]


def split(f: Fn, joined: Val, count: int) -> list[Val]:
    """The first `count` parts of what `join` made."""
    if count == 1:
        return [joined]
    n = lanes(joined.ty) // (1 << (count - 1).bit_length())
    return [f.shuffle(joined, joined, range(i * n, (i + 1) * n)) for i in range(count)]


def store_part(f: Fn, code: Val, ptr: Val, count: Val) -> None:
    """Stores the first min(count, lanes) bytes of `code` (count > 0)."""
    n = lanes(code.ty)
    if n == 1:
        f.store(code, ptr)
    elif f.isa.avx512:
        mask = f.iota(n, "i8").cmp("ult", f.min(count, n).cast("trunc", "i8").splat(n))
        f.call("void", f"llvm.masked.store.v{n}i8.p0", code, ptr, "i32 1", mask)
    else:
        whole = count.cmp("sge", n)
        with f.if_(whole):
            f.store(code, ptr)
        with f.if_(whole.bits("xor", 1)):
            _store_bits(f, code, ptr, count)


def _store_bits(f: Fn, code: Val, ptr: Val, count: Val) -> None:
    """Stores the first count < lanes bytes by way of the stack, in pieces of 1, 2, 4, ... bytes as the binary digits of the number say."""
    size = lanes(code.ty)
    buf = f.buffer(size)
    f.store(code, buf, align=16)
    done = f.c(0)
    while size > 1:
        size //= 2
        part = count.bits("and", size)
        with f.if_(part.cmp("ne", 0)):
            f.store(f.load(vec(size, "i8"), f.at(buf, done)), f.at(ptr, done))
        done = done + part
