"""What a plan is made of: steps, references to memory, and the constants that kernels read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: indices of the base addresses a kernel gets
ARENA, CONSTS, SCRATCH, FIRST_ARRAY = 0, 1, 2, 3

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Ref:
    """An address: byte `offset` in a root buffer of the arena, in the constants (root ''), or in array number `array` of the caller."""

    root: str
    offset: int
    array: int = -1


@dataclass
class Step:
    """One kernel call: which kernel (family and specialisation), its operands and its numbers.

    name: the operator it belongs to, macs: its multiply-accumulates, for the profile. reads, writes: roots.
    apart: it writes only where no other step writes.
    """

    name: str
    key: Key
    operands: dict[str, Ref]
    numbers: dict[str, int]
    macs: int = 0
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    apart: bool = False


@dataclass
class IslandStep:
    """An operator that Python runs, between two native calls."""

    name: str
    op: Any


@dataclass
class Constants:
    """One block of bytes in 64-byte aligned pieces; small pieces that are equal are stored once.

    Large pieces are made only when they are written, so that packed weights never exist twice.
    """

    parts: list[Callable[[], NDArray[Any]]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    size: int = 0
    _seen: dict[bytes, int] = field(default_factory=dict)

    def add(self, array: NDArray[Any]) -> Ref:
        """Stores the bytes of `array` (C order)."""
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        key = raw.tobytes() if raw.size <= 4096 else b""
        if key and key in self._seen:
            return Ref("", self._seen[key])
        ref = self.later(raw.size, lambda: raw)
        if key:
            self._seen[key] = ref.offset
        return ref

    def later(self, size: int, make: Callable[[], NDArray[Any]]) -> Ref:
        """Stores the `size` bytes of the array that `make` gives when the block is written."""
        at = self.size
        self.parts.append(make)
        self.starts.append(at)
        self.size += -(-size // 64) * 64
        return Ref("", at)

    def move(self, into: NDArray[np.uint8], between: Callable[[], None] = lambda: None) -> None:
        """Writes all pieces to their offsets and lets go of them. between: called after every large piece."""
        for at, make in zip(self.starts, self.parts, strict=True):
            raw = make().reshape(-1).view(np.uint8)
            into[at : at + raw.size] = raw
            if raw.size > 1 << 20:
                between()
        self.parts.clear()
        self.starts.clear()


def table_bytes(table: NDArray[Any]) -> NDArray[np.uint8]:
    """An int8[256] table (indexed by code + 128) as the engine keeps it: from byte to byte, both code + 128."""
    return (np.asarray(table, np.int8).view(np.uint8) ^ 0x80).astype(np.uint8)


def code_bytes(codes: NDArray[Any]) -> NDArray[np.uint8]:
    """int8 codes as the engine keeps them."""
    return (np.asarray(codes, np.int8).view(np.uint8) ^ 0x80).astype(np.uint8)


def numbers(values: Mapping[str, int | float | None]) -> dict[str, int]:
    """Drops absent numbers and makes plain integers."""
    return {k: int(v) for k, v in values.items() if v is not None}
