"""Parameters of kernels: one class for each kernel family, which gives the block of numbers that a step hands over and what the code reads.

A family declares its parameters once, as a generic frozen struct:

    class CopyParams(Params[A, I, R], frozen=True, kw_only=True):
        family: ClassVar[str] = "copy"
        spec: CopySpec      # what the code is specialised by; not in the block
        x: A                # an address: two int64 of the block, a base and a byte offset
        count: I            # an int64
        scale: R            # a float32, as its bits in an int64

A step holds `CopyParams[Ref, int, np.float32]`. The code generator gets `CopyParams[Param, Param, Param]`, which reads a value from the
block where the code asks for it; `Fn.values` makes `CopyParams[Val, Val, Val]` of it, all read at once. A parameter may be a tuple, a
`ParameterGroup`, or None where a specialisation has none. A kernel is specialised by its `spec` and by which parameters it has, so code
cannot read what a step did not give.
"""

import struct
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
import numpy as np

from axforge.axruntime.engines.host.codegen.features import Isa

#: indices of the base addresses a kernel gets; the caller's arrays follow
ARENA, CONSTS, SCRATCH, FIRST_ARRAY = 0, 1, 2, 3

A = TypeVar("A")
I = TypeVar("I")  # noqa: E741
R = TypeVar("R")


class Ref(msgspec.Struct, frozen=True, gc=False):
    """An address: byte `offset` of the buffer `root`, or of the constants (root '')."""

    root: str
    offset: int


class TableRef(Ref, frozen=True, gc=False):
    """The address of a table of offsets, with the lowest and the highest of each of its columns."""

    ranges: tuple[tuple[int, int], ...]


class Slot(Enum):
    """What the parameter block holds for a parameter."""

    ADDRESS = "address"
    INTEGER = "integer"
    FLOAT = "float"


class Extent(msgspec.Struct, frozen=True):
    """Bytes [first, last) from address `ref` on that a step reads or writes; up to `spill` bytes after them are loaded and not used."""

    ref: Ref
    first: int
    last: int
    writes: bool = False
    spill: int = 0


class ParameterGroup(msgspec.Struct, Generic[A, I, R], frozen=True, kw_only=True):
    """Parameters that several families share. Derived classes are frozen and have keyword arguments only."""


class Params(ParameterGroup[A, I, R], frozen=True, kw_only=True):
    """All parameters of a kernel family, whose name is `family`. The field `spec` is what the code is specialised by."""

    family: ClassVar[str]
    spec: object

    @abstractmethod
    def extents(self: "Params[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """The bytes that a step reaches through each of its addresses."""


Values = Params[Ref, int, np.float32]
#: a kernel: a family with its specialisation and the slots of the parameters that it has
Kernel = Params[Slot, Slot, Slot]


def _names(group: type[msgspec.Struct]) -> tuple[str, ...]:
    """The names of a group's fields that are in the block."""
    names = group.__struct_fields__
    return names[1:] if names[:1] == ("spec",) else names


def leaves(params: Params[A, I, R]) -> tuple[object, ...]:
    """Addresses, integers and floats in the order of the block; None for a parameter that is absent."""
    out: list[object] = []
    _flatten(msgspec.structs.astuple(params)[1:], out)  # without `spec`, which comes first
    return tuple(out)


def _flatten(values: tuple[object, ...], out: list[object]) -> None:
    for value in values:
        kind = type(value)
        if kind is int or kind is Ref:  # most of them
            out.append(value)
        elif kind is tuple:
            _flatten(value, out)  # type: ignore[arg-type]
        elif isinstance(value, ParameterGroup):
            _flatten(msgspec.structs.astuple(value), out)
        else:
            out.append(value)


_SLOTS: dict[type, Slot] = {int: Slot.INTEGER, Ref: Slot.ADDRESS, TableRef: Slot.ADDRESS, np.float32: Slot.FLOAT}
_FLOAT, _WORD = struct.Struct("<f"), struct.Struct("<I")


def slot_of(leaf: object) -> Slot:
    """Returns the slot of a leaf that is present; raises TypeError for a value that no parameter can have."""
    slot = _SLOTS.get(type(leaf))
    if slot is None:
        raise TypeError(f"{leaf!r} cannot be a parameter of a kernel")
    return slot


def packed(values: tuple[object, ...], places: Mapping[str, tuple[int, int]]) -> list[int]:
    """Returns the parameter block for these `leaves`, one int64 an item.

    places: where each buffer is, by its name: the number of a base address, and bytes from there.
    """
    out: list[int] = []
    for value in values:
        if type(value) is int:
            out.append(value)
        elif isinstance(value, Ref):
            base, start = places[value.root]
            out += (base, start + value.offset)
        elif isinstance(value, np.float32):
            out += _WORD.unpack(_FLOAT.pack(value))
    return out


def kernel_of(params: Values) -> Kernel:
    """The kernel that takes such parameters."""
    return mapped(params, slot_of)


def mapped(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Returns the same parameters with every leaf that is present replaced, in the order of the block."""
    if value is None:
        return None
    if type(value) is tuple:
        return tuple([mapped(item, leaf) for item in value])
    if isinstance(value, ParameterGroup):
        return msgspec.structs.replace(value, **{name: mapped(getattr(value, name), leaf) for name in _names(type(value))})
    return leaf(value)
