"""How large each channel of the last axis gets: what decides about the residual streams of transformers."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from axforge.axcompiler.statistics.base import F32, F64, Collector, Observation, Sampling, Statistic


def levels(peaks: F64) -> F64:
    """Binary logarithm of each channel's size by the median of the channels; 0 for a channel that is always 0."""
    alive = peaks > 0
    return np.log2(np.where(alive, peaks, 1.0) / np.median(peaks[alive])) * alive if alive.any() else np.zeros(len(peaks))


class PeaksCollector(Collector):
    """Largest absolute value of each channel of the last axis."""

    def __init__(self, channels: int) -> None:
        self._largest: F32 = np.zeros(channels, np.float32)

    def add(self, seen: Observation) -> None:
        """Take in one sample; values that are not finite are left out."""
        values = np.abs(np.nan_to_num(seen.values, nan=0.0, posinf=0.0, neginf=0.0)).reshape(-1, len(self._largest))
        self._largest = np.maximum(self._largest, values.max(axis=0))

    def result(self) -> F32:
        """[C]"""
        return self._largest


@dataclass(frozen=True)
class ChannelPeaks(Statistic):
    """Largest absolute value of each channel of the last axis, over all values: [C]."""

    name: ClassVar[str] = "peaks"

    @property
    def values(self) -> bool:
        """The values are needed,"""
        return True

    @property
    def all_values(self) -> bool:
        """and all of them, because a large one is at a single token."""
        return True

    def collector(self, sampling: Sampling) -> PeaksCollector:
        """Zeros."""
        return PeaksCollector(sampling.shape[-1])
