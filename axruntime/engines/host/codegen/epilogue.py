"""From accumulators to codes, as `numerics.requantize` defines it, and table look-ups. Shared by all kernels.

A code is a byte, code + 128. Clamping comes before rounding: both bounds are integers, so the order does not matter, and a clamped
value can be rounded by adding 1.5 * 2**23: the sum's low mantissa bits are the integer, rounded half to even, on every CPU.
The clamp's comparisons let NaN through, whose low byte is then 0 as in NumPy's conversion on x86.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from axruntime.engines.host.codegen.kit import Fn, Val, lanes, vec

_MAGIC = 12582912.0

#: parameters of an epilogue: lo and hi are float32 bits (bounds less the zero point), shift is zero_point + 128
EPILOGUE = ("lo", "hi", "shift", "table.base", "table")


@dataclass
class Epilogue:
    """Constants of one epilogue, loaded once a kernel call."""

    lo: Val
    hi: Val
    shift: Val
    table: Val | None
    banks: tuple[Val, ...] = ()


def load_epilogue(f: Fn, table: bool) -> Epilogue:
    """Reads the parameters of EPILOGUE."""
    e = Epilogue(f.param_f32("lo"), f.param_f32("hi"), f.param("shift").cast("trunc", "i8"), f.base("table") if table else None)
    if e.table is not None and f.isa.avx512:
        e.banks = tuple(f.load("<64 x i8>", e.table, 64 * i) for i in range(4))
    return e


def requantize(f: Fn, e: Epilogue, t: Val) -> Val:
    """t: float32, one or more lanes -> bytes, before the table."""
    n = lanes(t.ty)
    lo, hi = e.lo.splat(n), e.hi.splat(n)
    t = f.select(lo.cmp("ogt", t), lo, t)
    t = f.select(hi.cmp("olt", t), hi, t)
    code = (t + _MAGIC).cast("bitcast", vec(n, "i32")).cast("trunc", "i8")
    return code + e.shift.splat(n)


def lookup(f: Fn, table: Val, banks: Sequence[Val], code: Val) -> Val:
    """table[code] for each lane; `banks` are the table in four registers of AVX-512 VBMI."""
    n = lanes(code.ty)
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


def finish(f: Fn, e: Epilogue, values: Sequence[Val]) -> list[Val]:
    """Requantizes several vectors of equal width; look-ups are done for 64 bytes at a time where the CPU can."""
    codes = [requantize(f, e, t) for t in values]
    if e.table is None:
        return codes
    n = lanes(codes[0].ty)
    per = max(64 // n, 1) if e.banks else 1
    out: list[Val] = []
    for i in range(0, len(codes), per):
        part = codes[i : i + per]
        joined = lookup(f, e.table, e.banks, join(f, part))
        out += split(f, joined, len(part))
    return out


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
        mask = f.iota(n, "i64").cmp("slt", count.splat(n))
        f.call("void", f"llvm.masked.store.v{n}i8.p0", code, ptr, "i32 1", mask)
    else:
        buf = f.buffer(n)
        f.store(code, buf)
        with f.loop(0, f.min(count, n)) as i:
            f.store(f.load("i8", buf, i), ptr, i)
