"""What a plan is made of: steps, and the constants that kernels read."""

from bisect import bisect_right
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.numerics import Array
from axforge.axruntime.engines.host.codegen.params import Extent, Ref, TableRef, Values

#: most bytes of a piece of constants that is looked for among those stored already
_SMALL = 4096


class Step(msgspec.Struct, frozen=True):
    """One kernel call: its parameters, whose class names the kernel family, and the bytes it reaches.

    name: the operator it belongs to; leaves: its parameters one by one; reads, writes: buffers of the arena.
    macs: its multiply-accumulates, for the profile. disjoint_writes: it writes only where no other step writes.
    """

    name: str
    params: Values
    leaves: tuple[object, ...]
    extents: tuple[Extent, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    macs: int = 0
    disjoint_writes: bool = False

    @property
    def signature(self) -> tuple[object, ...]:
        """What distinguishes kernels: steps of equal signature have equal kernels (`kernel_of`), which take longer to make."""
        return type(self.params), self.params.spec, tuple(map(type, self.leaves))


class IslandStep(msgspec.Struct, frozen=True):
    """An operator that Python runs, between two native calls."""

    op: ir.Island


class Constants(msgspec.Struct):
    """One block of bytes in 64-byte aligned pieces; small pieces that are equal are stored once.

    Large pieces are made only when they are written, so that packed weights never exist twice.
    """

    parts: list[Callable[[], Array]] = msgspec.field(default_factory=list)
    starts: list[int] = msgspec.field(default_factory=list)
    ends: list[int] = msgspec.field(default_factory=list)
    size: int = 0
    _seen: dict[bytes, int] = msgspec.field(default_factory=dict)
    _tables: dict[tuple[bytes, tuple[int, ...]], TableRef] = msgspec.field(default_factory=dict)

    def add(self, array: Array) -> Ref:
        """Stores the bytes of `array` (C order)."""
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        key = raw.tobytes() if raw.size <= _SMALL else b""
        if key and key in self._seen:
            return Ref("", self._seen[key])
        ref = self.later(raw.size, lambda: raw)
        if key:
            self._seen[key] = ref.offset
        return ref

    def add_offsets(self, array: NDArray[np.int64], dtype: type[np.int32] | type[np.int64] = np.int64) -> TableRef:
        """Stores a table of offsets [rows] or [rows, columns], whose lowest and highest are kept for the check of the plan.

        Raises OverflowError for an offset that `dtype` does not hold: a kernel would read elsewhere than the check sees.
        """
        if array.size and not np.iinfo(dtype).min <= array.min() <= array.max() <= np.iinfo(dtype).max:
            raise OverflowError(f"an offset does not fit {np.dtype(dtype).name}")
        raw = array.astype(dtype, copy=False).tobytes()
        found = self._tables.get((raw, array.shape))
        if found is None or len(raw) > _SMALL:
            rows = array.reshape(len(array), -1)
            ranges = tuple(zip(np.minimum.reduce(rows).tolist(), np.maximum.reduce(rows).tolist(), strict=True))
            found = TableRef("", self.add(np.frombuffer(raw, np.uint8)).offset, ranges)
            self._tables[raw, array.shape] = found
        return found

    def later(self, size: int, make: Callable[[], Array]) -> Ref:
        """Stores the `size` bytes of the array that `make` gives when the block is written."""
        at = self.size
        self.parts.append(make)
        self.starts.append(at)
        self.ends.append(at + size)
        self.size += -(-size // 64) * 64
        return Ref("", at)

    def piece(self, offset: int) -> tuple[int, int]:
        """First byte of the piece that holds byte `offset`, and one past its last."""
        i = bisect_right(self.starts, offset) - 1
        return self.starts[i], self.ends[i]

    def move(self, into: NDArray[np.uint8], between: Callable[[], None] = lambda: None) -> None:
        """Writes all pieces to their offsets and lets go of them. between: called after every large piece."""
        for at, make in zip(self.starts, self.parts, strict=True):
            raw = make().reshape(-1).view(np.uint8)
            into[at : at + raw.size] = raw
            if raw.size > 1 << 20:
                between()
        self.parts.clear()
        self.starts.clear()
        self.ends.clear()


def code_bytes(codes: Array) -> NDArray[np.uint8]:
    """int8 codes, or a table of them that codes index, as the engine keeps them: bytes, code + 128."""
    return np.asarray(codes, np.int8).view(np.uint8) ^ np.uint8(0x80)
