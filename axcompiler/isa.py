"""The instructions of the AIPU: one table, from which everything else that knows instructions is derived.

An entry says which operands an instruction takes, of which types and shapes, what its immediates are called and may be, which unit runs it
and for how many cycles. The tiler encodes by it, `axruntime/program_check.py` checks by it, the simulator calls its function of the same
name with these operands and immediates, the cycle count asks it for cycles, `axmodel dump` prints by it, and
`python -m axforge.axcompiler.isa` prints the table in docs/aipu.md.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from axforge.axcompiler.instruction import (
    BIT,
    CODE,
    COUNT,
    FLOAT,
    SLOTS,
    ByImmediate,
    ExecutionUnit,
    Immediate,
    Instruction,
    InstructionWork,
    Operand,
    Value,
    WeightUse,
)
from axforge.axcompiler.program import NONE, Kind, Records
from axforge.axcompiler.target import Target

# ---------------------------------------------------------------- cycles


def _up(work: int, rate: int) -> int:
    return -(-work // rate)


def _dma(work: InstructionWork, target: Target) -> int:
    """dma.start_cycles + bytes of the words touched / bytes per cycle, of the slower memory"""
    return target.dma.start_cycles + work.transfer


def _gather(work: InstructionWork, target: Target) -> int:
    """as DMA + dma.gather_cycles * elements of b"""
    return _dma(work, target) + target.dma.gather_cycles * work.elements["b"]


def _load(work: InstructionWork, target: Target) -> int:
    """bytes of a / array.load_bytes_per_cycle"""
    return _up(work.elements["a"], target.array.load_bytes_per_cycle)


def _vectors(work: InstructionWork, target: Target) -> int:
    """pixels * the larger of array.cycles_per_vector and bytes of the words touched / array.read_bytes_per_cycle"""
    read = _up(work.words * target.word_bytes, target.array.read_bytes_per_cycle)
    return work.elements["out"] // work.columns * max(target.array.cycles_per_vector, read)


def _window(work: InstructionWork, target: Target) -> int:
    """depthwise.start_cycles + elements of a / depthwise.products"""
    return target.depthwise.start_cycles + _up(work.elements["a"], target.depthwise.products)


def _elementwise(work: InstructionWork, target: Target) -> int:
    """vector.start_cycles + elements of out / vector.elementwise"""
    return target.vector.start_cycles + _up(work.elements["out"], target.vector.elementwise)


def _softmax(work: InstructionWork, target: Target) -> int:
    """vector.start_cycles + elements of out / vector.softmax"""
    return target.vector.start_cycles + _up(work.elements["out"], target.vector.softmax)


def _two_passes(work: InstructionWork, target: Target) -> int:
    """vector.start_cycles + 2 * elements of out / vector.elementwise"""
    return target.vector.start_cycles + _up(2 * work.elements["out"], target.vector.elementwise)


def _resize(work: InstructionWork, target: Target) -> int:
    """vector.start_cycles + elements of out / vector.resize"""
    return target.vector.start_cycles + _up(work.elements["out"], target.vector.resize)


def _array_products(work: InstructionWork) -> int:
    return work.elements["a"] * work.columns


def _window_products(work: InstructionWork) -> int:
    return work.elements["a"]


# ---------------------------------------------------------------- the table


def _int8(shape: str) -> Operand:
    return Operand(Kind.INT8, shape)


def _int32(shape: str) -> Operand:
    return Operand(Kind.INT32, shape)


class Opcode(IntEnum):
    """The instructions. A member is the number in a record and has the instruction's entry as `spec`."""

    spec: Instruction

    def __new__(cls, code: int, spec: Instruction) -> "Opcode":
        """A member: its number and its entry."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.spec = spec
        return member

    END = 0, Instruction(ExecutionUnit.CONTROL, "ends a stream", {}, {})
    SIGNAL = 1, Instruction(ExecutionUnit.CONTROL, "increases a semaphore when all before it is done", {}, {"semaphore": COUNT})
    WAIT = 2, Instruction(ExecutionUnit.CONTROL, "waits until a semaphore has reached count", {}, {"semaphore": COUNT, "count": COUNT})
    HOST = (
        3,
        Instruction(
            ExecutionUnit.CONTROL, "waits while the host runs an island, an operator of the graph, on DDR", {}, {"operator": COUNT}
        ),
    )
    DMA = (
        4,
        Instruction(
            ExecutionUnit.DMA,
            "`out = a`, any strided view to any other of the same shape: slices, transposes, concatenation, reshapes, repeats",
            {"out": Operand(None, "S*"), "a": Operand(None, "S*")},
            {},
            _dma,
        ),
    )
    FILL = 5, Instruction(ExecutionUnit.DMA, "writes one code: padding", {"out": _int8("S*")}, {"value": CODE}, _dma)
    GATHER = (
        6,
        Instruction(
            ExecutionUnit.DMA,
            "`out[.., i, ..] = a[.., b[i], ..]` along an axis",
            {
                "out": _int8("A{axis} N B*"),
                "a": _int8("A{axis} I B*"),
                "b": Operand(Kind.INT32, "N", index_of="I"),
            },
            {"axis": COUNT},
            _gather,
        ),
    )
    LOADW = (
        7,
        Instruction(
            ExecutionUnit.ARRAY,
            "the array's weights become `a - zero`",
            {"a": _int8("K M")},
            {"zero": CODE},
            _load,
            weights=WeightUse.LOADED,
        ),
    )
    MVM = (
        8,
        Instruction(
            ExecutionUnit.ARRAY,
            "`out = (a - zero) @ weights`, or added to `out`; `a` may be windows over an image, so im2col costs no memory",
            {"out": _int32("P{axes} M"), "a": _int8("P{axes} K+")},
            {"axes": Immediate(1, 7), "zero": CODE},
            _vectors,
            _array_products,
            flags=("accumulate",),
            weights=WeightUse.MULTIPLIED,
        ),
    )
    DWCONV = (
        9,
        Instruction(
            ExecutionUnit.DWPU,
            "`out` = sums of `a * b` over the window KH, KW",
            {"out": _int32("H W C"), "a": _int8("H W C KH KW"), "b": _int8("C KH KW")},
            {},
            _window,
            _window_products,
        ),
    )
    REDUCE = (
        10,
        Instruction(
            ExecutionUnit.DWPU,
            "`out` = sum or largest of `a` over its last axes: pooling, means",
            {"out": Operand(ByImmediate("largest", (Kind.INT32, Kind.INT8)), "P{axes}"), "a": _int8("P{axes} R*")},
            {"axes": COUNT, "largest": BIT},
            _window,
        ),
    )
    REQUANT = (
        11,
        Instruction(
            ExecutionUnit.DPU,
            "epilogue of `float32(a + bias) * multiplier`",
            {"out": _int8("S*"), "a": _int32("S*")},
            {},
            _elementwise,
            epilogue=True,
            scaled=True,
        ),
    )
    TABLE = (
        12,
        Instruction(ExecutionUnit.DPU, "`out = b[a + 128]`", {"out": _int8("S*"), "a": _int8("S*"), "b": _int8("256")}, {}, _elementwise),
    )
    ADD = (
        13,
        Instruction(
            ExecutionUnit.DPU,
            "epilogue of `(a - zero_a) * scale_a + (b - zero_b) * scale_b`",
            {"out": _int8("S*"), "a": _int8("S*"), "b": _int8("S*")},
            {"zero_a": CODE, "zero_b": CODE, "scale_a": FLOAT, "scale_b": FLOAT},
            _elementwise,
            epilogue=True,
        ),
    )
    MUL = (
        14,
        Instruction(
            ExecutionUnit.DPU,
            "epilogue of `(a - zero_a) * (b - zero_b) * scale`",
            {"out": _int8("S*"), "a": _int8("S*"), "b": _int8("S*")},
            {"zero_a": CODE, "zero_b": CODE, "scale": FLOAT},
            _elementwise,
            epilogue=True,
        ),
    )
    SOFTMAX = (
        15,
        Instruction(
            ExecutionUnit.DPU,
            "epilogue of `e / sum(e) * scale` along the last axis, with `e = b[max(a) - a]`",
            {"out": _int8("S* N"), "a": _int8("S* N"), "b": _int32("256")},
            {"scale": FLOAT},
            _softmax,
            epilogue=True,
        ),
    )
    RESIZE = (
        16,
        Instruction(
            ExecutionUnit.DPU,
            "weighed sum of four neighbours of `a - zero`; `b`, `c`: two indices, two weights; first: the row that `a` starts with",
            {"out": _int32("H W C"), "a": Operand(Kind.INT8, "R V C", dense=True), "b": _int32("4 H"), "c": _int32("4 W")},
            {"zero": CODE, "first": COUNT},
            _resize,
        ),
    )
    NORMALIZE = (
        17,
        Instruction(
            ExecutionUnit.DPU,
            "epilogue of `(N * a - sum(a)) / sqrt(N * sum(a * a) - sum(a)**2 + epsilon) * b[0] + b[1]`, with sums along the last axis",
            {"out": _int8("S* N"), "a": _int8("S* N"), "b": Operand(Kind.FLOAT32, "2 N")},
            {"epsilon": FLOAT},
            _two_passes,
            epilogue=True,
        ),
    )


# ---------------------------------------------------------------- records


class DecodedInstruction(NamedTuple):
    """One instruction of a stream. operands: indices into the table of operands, by slot, where there is one; epilogue: index or NONE."""

    opcode: Opcode
    layer: int
    operands: dict[str, int]
    epilogue: int
    imm: tuple[int, ...]
    flags: int

    @property
    def values(self) -> dict[str, Value]:
        """Immediates and flags by name."""
        return self.opcode.spec.decode(self.imm, self.flags)


#: instructions by their number
OPCODES = {int(op): op for op in Opcode}


def records(stream: Records) -> Iterator[DecodedInstruction]:
    """The instructions of a stream whose opcodes are known."""
    columns = [stream[f].tolist() for f in ("op", "layer", *SLOTS, "epilogue", "imm", "flags")]
    for code, layer, out, a, b, c, epilogue, imm, flags in zip(*columns, strict=True):
        operands = {slot: index for slot, index in zip(SLOTS, (out, a, b, c), strict=True) if index != NONE}
        yield DecodedInstruction(OPCODES[code], layer, operands, epilogue, tuple(imm), flags)


# ---------------------------------------------------------------- docs/aipu.md


def markdown() -> str:
    """The table of docs/aipu.md."""
    rows = ["| instruction | unit | operands | cycles | does |", "|---|---|---|---|---|"]
    for op in Opcode:
        spec = op.spec
        names = ", ".join((*spec.immediates, *spec.flags))
        operands = ", ".join(f"{name} {_kind_text(o.kind)}[{o.shape}]" for name, o in spec.operands.items())
        rows.append(f"| `{op.name}` {names} | {spec.unit.value} | {operands} | {spec.cycles.__doc__} | {spec.does} |".replace("  ", " "))
    return "\n".join(rows) + "\n"


def _kind_text(kind: Kind | ByImmediate | None) -> str:
    if isinstance(kind, ByImmediate):
        return " or ".join(k.name.lower() for k in kind.kinds)
    return "any" if kind is None else kind.name.lower()


if __name__ == "__main__":
    print(markdown(), end="")
