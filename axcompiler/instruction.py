"""What an entry of the instruction table says: operands, immediates, unit, cost. The table itself is `isa.py`."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from axforge.axcompiler.program import Kind
from axforge.axcompiler.target import Target

#: where a record has operands
SLOTS = ("out", "a", "b", "c")
Value = int | float


class ExecutionUnit(Enum):
    """What runs an instruction. The DMA reaches every memory; all other units only the L1 of their core."""

    DMA = "DMA"
    ARRAY = "array"
    DWPU = "DWPU"
    DPU = "DPU"
    CONTROL = "control"


class WeightUse(Enum):
    """What an instruction does with the weights that the array holds."""

    UNUSED = 0
    LOADED = 1
    MULTIPLIED = 2


@dataclass(frozen=True)
class InstructionWork:
    """One instruction for the cycle count. elements: of its operands by name; columns: of the last axis of `out`.

    transfer: cycles that a DMA instruction moves bytes, undisturbed. words: of L1 that hold one vector, of products only.
    """

    elements: Mapping[str, int]
    columns: int
    transfer: int
    words: int


@dataclass(frozen=True)
class ByImmediate:
    """An element type that an immediate decides: `kinds[value]`."""

    immediate: str
    kinds: tuple[Kind, ...]


@dataclass(frozen=True)
class Operand:
    """An operand. kind: its element type; None: any, but the same for all operands with None. shape: see `shape_patterns.py`.

    dense: it has no more elements than its buffer has room for (a view may repeat elements; a result never may).
    index_of: each element is an index into the axis of that name, and is in the constants, where a checker can see it.
    """

    kind: Kind | ByImmediate | None
    shape: str
    dense: bool = False
    index_of: str = ""


@dataclass(frozen=True)
class Immediate:
    """A number inside an instruction, from `least` to `most`; float: a float32, stored by its bits."""

    least: int
    most: int
    float: bool = False


CODE = Immediate(-128, 127)
COUNT = Immediate(0, 2**31 - 1)
FLOAT = Immediate(-(2**31), 2**31 - 1, float=True)
BIT = Immediate(0, 1)

Cost = Callable[[InstructionWork, Target], int]


def no_cycles(work: InstructionWork, target: Target) -> int:
    """none"""
    return 0


@dataclass(frozen=True)
class Instruction:
    """An entry of the table. operands: in the slots out, a, b, c. immediates: in their order in a record. flags: from bit 0 upwards.

    does: one sentence, also for docs/aipu.md. cycles: from a function whose docstring is the formula. products: multiply-adds it counts as.
    epilogue: whether it ends in one; scaled: whether that must have a multiplier.
    """

    unit: ExecutionUnit
    does: str
    operands: Mapping[str, Operand]
    immediates: Mapping[str, Immediate]
    cycles: Cost = no_cycles
    products: Callable[[InstructionWork], int] = lambda work: 0
    flags: tuple[str, ...] = ()
    epilogue: bool = False
    scaled: bool = False
    weights: WeightUse = WeightUse.UNUSED

    @cached_property
    def _slots(self) -> dict[str, tuple[int, bool]]:
        return {name: (i, immediate.float) for i, (name, immediate) in enumerate(self.immediates.items())}

    def encode(self, values: Mapping[str, Value]) -> tuple[tuple[int, int, int, int], int]:
        """(immediates, flags) of a record. Raises TypeError if a name is missing or unknown; a flag that is left out is 0."""
        imm, flags, slots = [0, 0, 0, 0], 0, self._slots
        if sum(name in slots for name in values) != len(slots):
            raise TypeError(f"the immediates are {list(slots)}, not {list(values)}")
        for name, value in values.items():
            if name in slots:
                i, is_float = slots[name]
                imm[i] = float_bits(value) if is_float else int(value)
            elif name in self.flags:
                flags |= bool(value) << self.flags.index(name)
            else:
                raise TypeError(f"there is no immediate '{name}'")
        return (imm[0], imm[1], imm[2], imm[3]), flags

    def decode(self, imm: tuple[int, ...], flags: int) -> dict[str, Value]:
        """Immediates and flags by name."""
        values: dict[str, Value] = {name: float_of(imm[i]) if is_float else imm[i] for name, (i, is_float) in self._slots.items()}
        for bit, name in enumerate(self.flags):
            values[name] = bool(flags >> bit & 1)
        return values


def float_bits(value: float) -> int:
    """A float32 as the int32 that has its bits."""
    return int(struct.unpack("<i", struct.pack("<f", value))[0])


def float_of(bits: int) -> float:
    """The float32 with the bits of an int32."""
    return float(struct.unpack("<f", struct.pack("<i", bits))[0])
