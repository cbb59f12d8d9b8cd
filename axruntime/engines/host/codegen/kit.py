"""A small writer of LLVM IR text: values with operators, counted loops, mutable variables.

Kernels are written in it once for every CPU; vector types wider than the CPU's registers are split by LLVM.
Every kernel has the signature `void (ptr bases, ptr params, i64 thread, i64 threads)`: `bases` holds base addresses
(arena, constants, scratch, caller's arrays), `params` is the parameter block (see `params.py`).
"""

import itertools
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.params import Kernel, Params, Slot, mapped

_INT_OPS = {"add": "add", "sub": "sub", "mul": "mul", "div": "sdiv", "rem": "srem"}
_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_FLOATS = ("float", "double")


def element(ty: str) -> str:
    """Element type of a vector type, or the type itself."""
    return ty.split(" x ")[1][:-1] if ty.startswith("<") else ty


def lanes(ty: str) -> int:
    """Number of elements; 1 for a scalar."""
    return int(ty[1:].split(" ")[0]) if ty.startswith("<") else 1


def vec(n: int, ty: str) -> str:
    """Vector type of n elements; the scalar type itself for n = 1, so kernels can be written for any width."""
    return f"<{n} x {ty}>" if n > 1 else ty


def literal(ty: str, value: float | bool) -> str:
    """A constant of type `ty`; vectors are filled with it."""
    base = element(ty)
    if base in _FLOATS:
        exact = struct.unpack("<f", struct.pack("<f", float(value)))[0] if base == "float" else float(value)
        text = f"0x{struct.unpack('<Q', struct.pack('<d', exact))[0]:016X}"
    else:
        text = str(int(value))
    return "<" + ", ".join([f"{base} {text}"] * lanes(ty)) + ">" if ty.startswith("<") else text


class Val(msgspec.Struct, frozen=True):
    """One SSA value."""

    f: "Fn"
    ty: str
    ref: str

    def _op(self, name: str, other: "Val | float", swap: bool = False) -> "Val":
        rhs = other if isinstance(other, Val) else Val(self.f, self.ty, literal(self.ty, other))
        a, b = (rhs, self) if swap else (self, rhs)
        op = (_FLOAT_OPS if element(self.ty) in _FLOATS else _INT_OPS)[name]
        return self.f.emit(self.ty, f"{op} {self.ty} {a.ref}, {b.ref}")

    def __add__(self, o: "Val | float") -> "Val":
        return self._op("add", o)

    def __sub__(self, o: "Val | float") -> "Val":
        return self._op("sub", o)

    def __mul__(self, o: "Val | float") -> "Val":
        return self._op("mul", o)

    def __floordiv__(self, o: "Val | float") -> "Val":
        return self._op("div", o)

    def __truediv__(self, o: "Val | float") -> "Val":
        return self._op("div", o)

    def __mod__(self, o: "Val | float") -> "Val":
        return self._op("rem", o)

    def bits(self, op: str, o: "Val | int") -> "Val":
        """and, or, xor, shl, lshr, ashr."""
        rhs = o.ref if isinstance(o, Val) else literal(self.ty, o)
        return self.f.emit(self.ty, f"{op} {self.ty} {self.ref}, {rhs}")

    def cmp(self, kind: str, o: "Val | float") -> "Val":
        """icmp (slt, eq, ult, ...) or fcmp (ogt, olt, ...)."""
        rhs = o.ref if isinstance(o, Val) else literal(self.ty, o)
        ins = "fcmp" if element(self.ty) in _FLOATS else "icmp"
        return self.f.emit(vec(lanes(self.ty), "i1"), f"{ins} {kind} {self.ty} {self.ref}, {rhs}")

    def cast(self, op: str, ty: str) -> "Val":
        """zext, sext, trunc, sitofp, fptosi, fpext, fptrunc, bitcast to the element type `ty` (bitcast: to the whole type)."""
        to = ty if op == "bitcast" else vec(lanes(self.ty), ty)
        return self.f.emit(to, f"{op} {self.ty} {self.ref} to {to}")

    def splat(self, n: int) -> "Val":
        """This scalar in n lanes."""
        if n == 1:
            return self
        ty = vec(n, self.ty)
        one = self.f.emit(ty, f"insertelement {ty} poison, {self.ty} {self.ref}, i64 0")
        return self.f.emit(ty, f"shufflevector {ty} {one.ref}, {ty} poison, <{n} x i32> zeroinitializer")

    def lane(self, i: int) -> "Val":
        """Element i of a vector."""
        if lanes(self.ty) == 1:
            return self
        return self.f.emit(element(self.ty), f"extractelement {self.ty} {self.ref}, i64 {i}")


class Var(msgspec.Struct, frozen=True):
    """A mutable variable; LLVM keeps it in registers."""

    f: "Fn"
    ty: str
    ref: str

    def get(self) -> Val:
        """Returns the present value of the variable."""
        return self.f.emit(self.ty, f"load {self.ty}, ptr {self.ref}")

    def set(self, value: Val) -> None:
        """Gives the variable a new value."""
        self.f.line(f"store {self.ty} {value.ref}, ptr {self.ref}")


class Param(msgspec.Struct, frozen=True):
    """A parameter in the block: number `index` of its int64, and the next one for an address."""

    f: "Fn"
    slot: Slot
    index: int

    def get(self) -> Val:
        """Reads it here: an address as ptr, an integer as i64, a float as float."""
        if self.slot is Slot.INTEGER:
            return self._word(0)
        if self.slot is Slot.FLOAT:
            return self._word(0).cast("trunc", "i32").cast("bitcast", "float")
        base = self.f.load("ptr", self.f.at(Val(self.f, "ptr", "%bases"), self._word(0) * 8), align=8)
        return self.f.at(base, self._word(1))

    def _word(self, i: int) -> Val:
        return self.f.load("i64", Val(self.f, "ptr", "%p"), 8 * (self.index + i), align=8)


class Fn:
    """One kernel under construction."""

    def __init__(self, name: str, isa: Isa) -> None:
        self.name, self.isa = name, isa
        self._head: list[str] = []
        self._body: list[str] = []
        self._n = 0
        self.declares: set[str] = set()
        self.tid, self.nt = Val(self, "i64", "%tid"), Val(self, "i64", "%nt")

    # ------------------------------------------------------------ plumbing

    def line(self, text: str) -> None:
        """Adds one line of LLVM IR to the function."""
        self._body.append("  " + text)

    def name_of(self, stem: str) -> str:
        """Returns a name that begins with `stem` and that nothing else in the function has."""
        self._n += 1
        return f"{stem}{self._n}"

    def emit(self, ty: str, text: str) -> Val:
        """Adds the instruction `text` and returns its result, of type `ty`."""
        ref = self.name_of("%v")
        self.line(f"{ref} = {text}")
        return Val(self, ty, ref)

    def call(self, ty: str, function: str, *args: "Val | str") -> Val:
        """Call of an intrinsic; string arguments are written as they are (`i8 3`)."""
        texts = [a if isinstance(a, str) else f"{a.ty} {a.ref}" for a in args]
        types = [a.split(" ")[0] if isinstance(a, str) else a.ty for a in args]
        self.declares.add(f"declare {ty} @{function}({', '.join(types)})")
        text = f"call {ty} @{function}({', '.join(texts)})"
        if ty == "void":
            self.line(text)
            return Val(self, ty, "")
        return self.emit(ty, text)

    def text(self) -> str:
        """The finished function."""
        attrs = f'"target-features"="{self.isa.llvm_features}" ' if self.isa.llvm_features else ""
        if self.isa.arm:
            # loads well before their use: cores that reorder instructions do not mind
            attrs += '"tune-cpu"="cortex-a55" '
        return "\n".join(
            [
                f"define void @{self.name}(ptr %bases, ptr %p, i64 %tid, i64 %nt) nounwind "
                f'{attrs}"prefer-vector-width"="{self.isa.width}" "no-builtins" {{',
                "entry:",
                *self._head,
                *self._body,
                "  ret void",
                "}",
            ]
        )

    # ------------------------------------------------------------ values

    def c(self, value: float, ty: str = "i64") -> Val:
        """Returns a constant; of a vector type, all elements are `value`."""
        return Val(self, ty, literal(ty, value))

    def iota(self, n: int, ty: str) -> Val:
        """0, 1, ..., n - 1."""
        return Val(self, vec(n, ty), "<" + ", ".join(f"{ty} {i}" for i in range(n)) + ">" if n > 1 else "0")

    def params(self, kernel: Kernel) -> Params[Param, Param, Param]:
        """Returns the kernel's parameters as `Param`, each of which is read from the block where the code needs it."""
        place = itertools.count()

        def param(slot: Slot) -> Param:
            index = next(place)
            if slot is Slot.ADDRESS:
                next(place)
            return Param(self, slot, index)

        return mapped(kernel, param)

    def values(self, params: Any) -> Any:
        """The same parameters as values that are read here, in the order of the block. (LLVM drops what is not used.)"""
        return mapped(params, Param.get)

    def base_at(self, index: int) -> Val:
        """Reads base address number `index`."""
        return self.load("ptr", Val(self, "ptr", "%bases"), 8 * index, align=8)

    def at(self, ptr: Val, offset: "Val | int") -> Val:
        """ptr + offset bytes."""
        if isinstance(offset, int):
            return ptr if offset == 0 else self.emit("ptr", f"getelementptr i8, ptr {ptr.ref}, i64 {offset}")
        return self.emit("ptr", f"getelementptr i8, ptr {ptr.ref}, {offset.ty} {offset.ref}")

    def load(self, ty: str, ptr: Val, offset: "Val | int" = 0, align: int = 1) -> Val:
        """Reads a value of type `ty`, `offset` bytes after `ptr`."""
        return self.emit(ty, f"load {ty}, ptr {self.at(ptr, offset).ref}, align {align}")

    def store(self, value: Val, ptr: Val, offset: "Val | int" = 0, align: int = 1) -> None:
        """Writes `value`, `offset` bytes after `ptr`."""
        self.line(f"store {value.ty} {value.ref}, ptr {self.at(ptr, offset).ref}, align {align}")

    def select(self, cond: Val, a: Val, b: Val) -> Val:
        """Returns `a` where `cond` (i1, one or one for each element) is true, else `b`."""
        return self.emit(a.ty, f"select {cond.ty} {cond.ref}, {a.ty} {a.ref}, {b.ty} {b.ref}")

    def min(self, a: Val, b: "Val | int") -> Val:
        """Returns the smaller of two signed integers, element by element."""
        other = b if isinstance(b, Val) else self.c(b, a.ty)
        return self.select(a.cmp("slt", other), a, other)

    def max(self, a: Val, b: "Val | int") -> Val:
        """Returns the larger of two signed integers, element by element."""
        other = b if isinstance(b, Val) else self.c(b, a.ty)
        return self.select(a.cmp("sgt", other), a, other)

    def fixed(self, v: Val, *, ordered: bool = False) -> Val:
        """The same vector, of which the optimizer knows nothing: sums keep the order in which they are written, and so their registers.

        ordered: what depends on it is not moved before what an earlier ordered one depends on.
        """
        effect = "sideeffect " if ordered else ""
        return self.emit(v.ty, f'call {v.ty} asm {effect}"", "={self.isa.vector_constraint},0"({v.ty} {v.ref})')

    def shuffle(self, a: Val, b: Val, index: Sequence[int]) -> Val:
        """Returns the elements `index` of the concatenation of the vectors `a` and `b`."""
        ty = vec(len(index), element(a.ty))
        mask = f"<{len(index)} x i32> <" + ", ".join(f"i32 {i}" for i in index) + ">"
        return self.emit(ty, f"shufflevector {a.ty} {a.ref}, {b.ty} {b.ref}, {mask}")

    def var(self, ty: str, init: Val | None = None) -> Var:
        """Declares a variable, with the value `init` if it is given."""
        ref = self.name_of("%a")
        self._head.append(f"  {ref} = alloca {ty}")
        out = Var(self, ty, ref)
        if init is not None:
            out.set(init)
        return out

    def buffer(self, size: int) -> Val:
        """`size` bytes on the stack, 64-byte aligned."""
        ref = self.name_of("%b")
        self._head.append(f"  {ref} = alloca [{size} x i8], align 64")
        return Val(self, "ptr", ref)

    # ------------------------------------------------------------ control flow

    @contextmanager
    def loop(self, start: "Val | int", end: "Val | int", step: int = 1) -> Iterator[Val]:
        """for i in range(start, end, step)."""
        first = start if isinstance(start, Val) else self.c(start)
        last = end if isinstance(end, Val) else self.c(end)
        tag = self.name_of("L")
        counter = self.var("i64", first)
        self.line(f"br label %{tag}.head")
        self.line(f"\n{tag}.head:")
        i = counter.get()
        go = i.cmp("slt", last)
        self.line(f"br i1 {go.ref}, label %{tag}.body, label %{tag}.end")
        self.line(f"\n{tag}.body:")
        yield i
        counter.set(i + step)
        self.line(f"br label %{tag}.head")
        self.line(f"\n{tag}.end:")

    @contextmanager
    def if_(self, cond: Val) -> Iterator[None]:
        """Makes a block that runs only when the i1 `cond` is true."""
        tag = self.name_of("I")
        self.line(f"br i1 {cond.ref}, label %{tag}.then, label %{tag}.end")
        self.line(f"\n{tag}.then:")
        yield
        self.line(f"br label %{tag}.end")
        self.line(f"\n{tag}.end:")

    def share(self, n: Val) -> tuple[Val, Val]:
        """This thread's part [first, last) of n items: contiguous, and the same for every run."""
        return (n * self.tid) // self.nt, (n * (self.tid + 1)) // self.nt
