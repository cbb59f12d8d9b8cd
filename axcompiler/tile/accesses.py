"""Which bytes of the shared memories the instructions of a program read and write."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.instruction import SLOTS
from axforge.axcompiler.program import ITEMSIZE, NONE, Kind, Program, Records, Space

I64 = NDArray[np.int64]
#: An operand of more runs of bytes than this counts as all bytes from its lowest to its highest: too much, never too little.
MOST_RUNS = 4096
#: Where each memory begins in one space of addresses for all; no memory is larger (program_check holds that).
_BASE = {Space.DDR: 0, Space.L2: 1 << 41}


@dataclass(frozen=True)
class ByteRuns:
    """A set of bytes as runs [start, end), sorted, without gaps of no bytes and without overlap. Shape of both: [N]."""

    starts: I64
    ends: I64

    @staticmethod
    def union(starts: I64, ends: I64) -> "ByteRuns":
        """The bytes of runs in any order, which may overlap."""
        if not len(starts):
            return ByteRuns(starts, ends)
        order = np.argsort(starts, kind="stable")
        starts, furthest = starts[order], np.maximum.accumulate(ends[order])
        first = np.concatenate([[True], starts[1:] > furthest[:-1]])
        return ByteRuns(starts[first], furthest[np.concatenate([np.flatnonzero(first)[1:] - 1, [len(starts) - 1]])])

    def __or__(self, other: "ByteRuns") -> "ByteRuns":
        """The bytes of either."""
        if not len(other.starts):
            return self
        return ByteRuns.union(np.concatenate([self.starts, other.starts]), np.concatenate([self.ends, other.ends]))

    def meets(self, other: "ByteRuns") -> bool:
        """Whether both have a byte in common."""
        if not len(self.starts) or not len(other.starts):
            return False
        behind = np.searchsorted(other.ends, self.starts, side="right")  # the first run of `other` that ends after the start
        there = behind < len(other.starts)
        return bool((other.starts[behind[there]] < self.ends[there]).any())


NOTHING = ByteRuns(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Accesses:
    """What some instructions read and write in DDR and L2."""

    read: ByteRuns = NOTHING
    written: ByteRuns = NOTHING

    def __or__(self, other: "Accesses") -> "Accesses":
        """What either does."""
        return Accesses(self.read | other.read, self.written | other.written)

    def conflicts(self, later: "Accesses") -> bool:
        """Whether the result depends on which of the two comes first."""
        return self.written.meets(later.read) or self.written.meets(later.written) or self.read.meets(later.written)


class SharedMemory:
    """The bytes of a program's operands. L1 belongs to one core, and constants are never written: neither counts."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._runs: dict[int, ByteRuns] = {}
        space = program.buffers["space"][program.operands["buffer"]]
        self._shared = (space == Space.DDR) | (space == Space.L2)

    def of(self, instructions: Records) -> Accesses:
        """What these instructions read and write. (Epilogues refer to L1 only, as every unit but DMA does.)"""
        return Accesses(
            self._union(np.concatenate([instructions[slot] for slot in SLOTS if slot != "out"])), self._union(instructions["out"])
        )

    def _union(self, operands: NDArray[np.uint32]) -> ByteRuns:
        used = np.unique(operands)
        used = used[used != NONE]
        used = used[self._shared[used]]
        if not len(used):
            return NOTHING
        runs = [self._operand(int(index)) for index in used]
        return ByteRuns.union(np.concatenate([r.starts for r in runs]), np.concatenate([r.ends for r in runs]))

    def _operand(self, index: int) -> ByteRuns:
        if index not in self._runs:
            row = self._program.operands[index]
            buffer = self._program.buffers[row["buffer"]]
            base = _BASE[Space(int(buffer["space"]))] + int(buffer["offset"]) + int(row["offset"])
            axes = [(int(row["shape"][a]), int(row["strides"][a])) for a in range(int(row["rank"]))]
            starts, length = byte_runs(axes, ITEMSIZE[Kind(int(row["kind"]))])
            self._runs[index] = ByteRuns.union(base + starts, base + starts + length)
        return self._runs[index]


def byte_runs(axes: list[tuple[int, int]], itemsize: int) -> tuple[I64, int]:
    """Where the runs of a strided view begin, in bytes from its first element, and how long each is.

    axes: (size, stride in bytes) of each. Axes that follow on one another without a gap are one run; of the others every start is listed.
    """
    low = sum((size - 1) * min(stride, 0) for size, stride in axes)
    steps = sorted((abs(stride), size) for size, stride in axes if size > 1 and stride)
    length = itemsize
    while steps and steps[0][0] <= length:
        stride, size = steps.pop(0)
        length += (size - 1) * stride
    count = 1
    for _, size in steps:
        count *= size
    if count > MOST_RUNS:
        return np.array([low], np.int64), length + sum((size - 1) * stride for stride, size in steps)
    starts = np.array([low], np.int64)
    for stride, size in steps:
        starts = (starts[:, None] + stride * np.arange(size)).reshape(-1)
    return starts, length
