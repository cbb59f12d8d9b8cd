"""What a plan is made of: steps, references to memory, and the constants that kernels read."""

from collections.abc import Mapping
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
    """

    name: str
    key: Key
    operands: dict[str, Ref]
    numbers: dict[str, int]
    macs: int = 0
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


@dataclass
class IslandStep:
    """An operator that Python runs, between two native calls."""

    name: str
    op: Any


@dataclass
class Constants:
    """One block of bytes, 64-byte aligned pieces; equal pieces are stored once."""

    parts: list[NDArray[np.uint8]] = field(default_factory=list)
    size: int = 0
    _seen: dict[bytes, int] = field(default_factory=dict)

    def add(self, array: NDArray[Any]) -> Ref:
        """Stores the bytes of `array` (C order)."""
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        key = raw.tobytes() if raw.size <= 4096 else b""
        if key and key in self._seen:
            return Ref("", self._seen[key])
        at = self.size
        self.parts.append(raw)
        self.size += -(-raw.size // 64) * 64
        if key:
            self._seen[key] = at
        return Ref("", at)

    def write(self, into: NDArray[np.uint8]) -> None:
        """Copies all pieces to their offsets."""
        at = 0
        for raw in self.parts:
            into[at : at + raw.size] = raw
            at += -(-raw.size // 64) * 64


def table_bytes(table: NDArray[Any]) -> NDArray[np.uint8]:
    """An int8[256] table (indexed by code + 128) as the engine keeps it: from byte to byte, both code + 128."""
    return (np.asarray(table, np.int8).view(np.uint8) ^ 0x80).astype(np.uint8)


def code_bytes(codes: NDArray[Any]) -> NDArray[np.uint8]:
    """int8 codes as the engine keeps them."""
    return (np.asarray(codes, np.int8).view(np.uint8) ^ 0x80).astype(np.uint8)


def numbers(values: Mapping[str, int | float | None]) -> dict[str, int]:
    """Drops absent numbers and makes plain integers."""
    return {k: int(v) for k, v in values.items() if v is not None}
