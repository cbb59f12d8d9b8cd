"""What a copy costs: memories move whole words, so that short runs of bytes cost more than a linear copy.

A run is what a memory can be read or written in one go: bytes that follow each other both in memory and in the order of the copy. The
DMA goes through a copy in the order of the result or in that of the source, whichever is faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from axforge.axcompiler.program import Space
from axforge.axcompiler.target import Target


@dataclass(frozen=True)
class Side:
    """One end of a copy. shape, strides: of the view, in elements and bytes; item: bytes of an element."""

    space: int
    shape: Sequence[int]
    strides: Sequence[int]
    item: int

    def moved(self, order: Sequence[int], word: int) -> int:
        """Bytes of whole words that the memory moves when the axes are gone through in this order, innermost first."""
        run, count = self.item, 1
        axes = [axis for axis in order if self.shape[axis] != 1]
        for i, axis in enumerate(axes):
            if self.strides[axis] != run:
                for outer in axes[i:]:
                    count *= self.shape[outer]
                break
            run *= self.shape[axis]
        return count * -(-run // word) * word

    def natural(self) -> list[int]:
        """Axes from the shortest stride to the longest; repeated ones last."""
        return sorted(range(len(self.shape)), key=lambda axis: (self.strides[axis] == 0, abs(self.strides[axis])))


@dataclass(frozen=True)
class Transfer:
    """A copy that has the memories to itself: its cycles, and the bytes a cycle that it then takes from DDR (weights apart) and L2."""

    cycles: int
    ddr: float = 0.0
    weights: float = 0.0
    l2: float = 0.0


class TransferCosts:
    """Costs of copies on a target."""

    def __init__(self, target: Target) -> None:
        dma = target.dma
        self._word = target.word_bytes
        self._rates = {
            int(Space.CONST): dma.ddr_bytes_per_cycle,
            int(Space.DDR): dma.ddr_bytes_per_cycle,
            int(Space.L2): dma.l2_bytes_per_cycle,
            int(Space.L1): dma.l1_bytes_per_cycle,
        }

    def of(self, sides: Sequence[Side]) -> Transfer:
        """The cost of a copy between these ends (of one shape), or of writing to the only one."""
        orders = [side.natural() for side in sides]
        moved = min(([side.moved(order, self._word) for side in sides] for order in orders), key=lambda m: self._cycles(sides, m))
        cycles = self._cycles(sides, moved)
        demand = dict.fromkeys(self._rates, 0.0)
        for side, size in zip(sides, moved, strict=True):
            demand[side.space] += size / cycles
        return Transfer(cycles, demand[int(Space.DDR)], demand[int(Space.CONST)], demand[int(Space.L2)])

    def _cycles(self, sides: Sequence[Side], moved: Sequence[int]) -> int:
        return max(1, *(-(-size // self._rates[side.space]) for side, size in zip(sides, moved, strict=True)))
