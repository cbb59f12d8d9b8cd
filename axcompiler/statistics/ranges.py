"""Extremes and a histogram of a tensor."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.placement.units import region_bounds
from axforge.axcompiler.statistics.base import Collector, Observation, PlacedStatistic, Range, Sampling, StatisticPoint, statistic
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


@statistic
@dataclass(frozen=True)
class TensorRange(PlacedStatistic):
    """Extremes of a whole tensor, exact, and the histogram of its sampled values: of every activation that has a scale of its own.

    from_zero: the lower extreme is known to be 0, or to have no effect (behind a Relu), and is not measured.
    """

    name: ClassVar[str] = "tensors"
    from_function: ClassVar[bool] = True
    from_zero: bool = False

    @classmethod
    def points(cls, plan: Plan) -> Iterable[StatisticPoint]:
        """Every tensor that has a scale of its own."""
        return [StatisticPoint(name, cls(from_zero=_from_zero(plan, name))) for name in plan.sources]

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


def _from_zero(plan: Plan, name: str) -> bool:
    """Whether a tensor is what a Relu makes: its lower extreme is 0, or has no effect."""
    k = plan.maker.get(name, -1)
    clipped = region_bounds(plan.view, plan.parts[k]) if k in plan.aipu else None
    return clipped is not None and clipped[0] == 0
