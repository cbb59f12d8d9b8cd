"""A histogram that grows with its data, in one pass and in any order, to the same result.

Bins are [i * 2**e, (i + 1) * 2**e); when the data need more than `bins` of them, e grows by one and pairs of bins merge.
Merging is exact, so the result depends on the data alone, not on their order or on how they came in parts.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: widths below 2**-120 would need denormal arithmetic; such data are as good as zero
MIN_EXPONENT = -120


@dataclass
class Histogram:
    """counts[j] values lie in [(first + j) * 2**exponent, (first + j + 1) * 2**exponent). Empty while counts is empty."""

    bins: int
    exponent: int
    first: int
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, bins: int) -> "Histogram":
        """A histogram of nothing with at most `bins` bins."""
        return cls(bins, MIN_EXPONENT, 0, np.zeros(0, np.int64))

    def add(self, values: NDArray[np.float32], lo: float, hi: float) -> None:
        """Count `values`, all finite. The range grows to hold 0 and lo..hi, which may be wider than the values."""
        self._reach(min(lo, 0.0), max(hi, 0.0))
        # times a power of two: exact in float32
        index = np.floor(values * np.float32(2.0**-self.exponent)).astype(np.int64) - self.first
        self.counts += np.bincount(index, minlength=len(self.counts))

    def _reach(self, lo: float, hi: float) -> None:
        exponent = self.exponent
        if len(self.counts) and self._holds(lo, hi):
            return
        if not len(self.counts):
            span = (hi - lo) / self.bins
            exponent = max(MIN_EXPONENT, int(np.floor(np.log2(span))) - 2) if span > 0 else MIN_EXPONENT
            self.exponent = exponent
            self.first = int(np.floor(np.ldexp(lo, -exponent)))
        first, last = self._wanted(lo, hi, exponent)
        while last - first + 1 > self.bins:
            exponent += 1
            first, last = self._wanted(lo, hi, exponent)
        counts = np.zeros(last - first + 1, np.int64)
        old = (np.arange(len(self.counts)) + self.first) >> (exponent - self.exponent)
        np.add.at(counts, old - first, self.counts)
        self.exponent, self.first, self.counts = exponent, first, counts

    def _holds(self, lo: float, hi: float) -> bool:
        return math.ldexp(self.first, self.exponent) <= lo and hi < math.ldexp(self.first + len(self.counts), self.exponent)

    def _wanted(self, lo: float, hi: float, exponent: int) -> tuple[int, int]:
        first, last = int(np.floor(np.ldexp(lo, -exponent))), int(np.floor(np.ldexp(hi, -exponent)))
        if len(self.counts):
            shift = exponent - self.exponent
            first, last = min(first, self.first >> shift), max(last, (self.first + len(self.counts) - 1) >> shift)
        return first, last

    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        return np.ldexp(self.first + np.arange(len(self.counts)) + 0.5, self.exponent)
