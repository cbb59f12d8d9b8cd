"""Statistics of the channels of a tensor: their means, from sampled values, and their extremes, from all values."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from axforge.axcompiler.placement.plan import Plan, layer_inputs
from axforge.axcompiler.statistics.base import (
    F32,
    F64,
    Collector,
    Observation,
    PlacedStatistic,
    Sampling,
    Statistic,
    StatisticPoint,
    statistic,
)


class MeansCollector(Collector):
    """Sums the sampled values of each channel (axis `axis`)."""

    def __init__(self, sampling: Sampling, axis: int) -> None:
        shape = sampling.shape
        rows = int(np.prod(shape)) // sampling.row
        position = (np.arange(0, rows, sampling.stride)[:, None] * sampling.row + np.arange(sampling.row)).reshape(-1)
        channel = position // int(np.prod(shape[axis + 1 :])) % shape[axis]
        # where neighbours have the same channel nearly always, sums of runs are much faster than sums by index
        self._starts = np.flatnonzero(np.diff(channel, prepend=-1))
        self._channel = channel[self._starts]
        self._sum = np.zeros(shape[axis])
        self._count = np.bincount(channel, minlength=shape[axis])
        self._samples = 0

    def add(self, seen: Observation) -> None:
        """Take in the sampled values of one sample. A masked tensor has no useful means: whatever reads it stays in float32."""
        if seen.masked:
            return
        runs = np.add.reduceat(seen.values, self._starts)
        self._sum += np.bincount(self._channel, weights=runs, minlength=len(self._sum))
        self._samples += 1

    def result(self) -> F32:
        """The means [C]; 0 for a channel without a sampled value."""
        return (self._sum / np.maximum(self._count * self._samples, 1)).astype(np.float32)


@statistic
@dataclass(frozen=True)
class ChannelMeans(PlacedStatistic):
    """Mean of each channel (axis `axis`) over the sampled values, [C]: of what layers multiply by their weights."""

    name: ClassVar[str] = "means"
    from_function: ClassVar[bool] = True
    axis: int = 1

    @classmethod
    def points(cls, plan: Plan) -> Iterable[StatisticPoint]:
        """Every activation that a layer multiplies by its weight."""
        return [StatisticPoint(name, cls(axis)) for name, axis in layer_inputs(plan).items()]

    @property
    def values(self) -> bool:
        """Sampled values are needed."""
        return True

    def collector(self, sampling: Sampling) -> MeansCollector:
        """Means of no samples yet."""
        return MeansCollector(sampling, self.axis)


class WidthsCollector(Collector):
    """Extremes of each channel, 0 among them."""

    def __init__(self, channels: int) -> None:
        self._lo, self._hi = np.zeros(channels, np.float32), np.zeros(channels, np.float32)

    def add(self, seen: Observation) -> None:
        """Take in the extremes of one sample."""
        assert seen.lows is not None
        assert seen.highs is not None
        self._lo = np.minimum(self._lo, seen.lows.min(axis=0))
        self._hi = np.maximum(self._hi, seen.highs.max(axis=0))

    def result(self) -> F64:
        """Width of each channel [C]."""
        return np.nan_to_num(self._hi.astype(np.float64) - self._lo, nan=0.0, posinf=0.0)


@dataclass(frozen=True)
class ChannelExtremes(Statistic):
    """What is made of the smallest and the largest value of each channel."""

    @property
    def lowest(self) -> bool:
        """The smallest values are needed."""
        return True

    @property
    def highest(self) -> bool:
        """The largest values are needed."""
        return True


@dataclass(frozen=True)
class ChannelWidths(ChannelExtremes):
    """Width (largest less smallest value, 0 among them) of each channel (axis 1): [C]. A width that is not finite counts as 0."""

    name: ClassVar[str] = "widths"

    def collector(self, sampling: Sampling) -> WidthsCollector:
        """Widths of no samples yet."""
        return WidthsCollector(sampling.shape[1])
