"""Extremes and a histogram of a tensor."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from axforge.axcompiler.statistics.base import Collector, Observation, Range, Sampling, Statistic
from axforge.axcompiler.statistics.histogram import Histogram


class RangeCollector(Collector):
    """Widens a range and fills its histogram."""

    def __init__(self, bins: int) -> None:
        self._range = Range(np.inf, -np.inf, Histogram.empty(bins))

    def widen(self, lo: float, hi: float) -> None:
        """Take in extremes alone."""
        self._range.lo, self._range.hi = min(self._range.lo, lo), max(self._range.hi, hi)

    def add(self, seen: Observation) -> None:
        """Take in one sample."""
        self.widen(seen.lo, seen.hi)
        self._range.histogram.add(seen.values, seen.lo, seen.hi)

    def result(self) -> Range:
        """The range."""
        return self._range


@dataclass(frozen=True)
class TensorRange(Statistic):
    """Extremes of a whole tensor, exact, and the histogram of its sampled values.

    from_zero: the lower extreme is known to be 0, or to have no effect (behind a Relu), and is not measured.
    """

    name: ClassVar[str] = "tensors"
    from_function: ClassVar[bool] = True
    from_zero: bool = False

    @property
    def lowest(self) -> bool:
        """Whether the smallest values are needed."""
        return not self.from_zero

    @property
    def highest(self) -> bool:
        """The largest values are needed."""
        return True

    @property
    def values(self) -> bool:
        """Sampled values are needed."""
        return True

    def collector(self, sampling: Sampling) -> RangeCollector:
        """An empty range."""
        return RangeCollector(sampling.bins)
