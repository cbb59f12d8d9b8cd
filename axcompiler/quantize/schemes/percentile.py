"""Cuts off the rarest values."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from axforge.axcompiler.quantize.range_scheme import Bounds, Function, RangeScheme, extremes, range_scheme
from axforge.axcompiler.statistics.base import Range


@range_scheme
@dataclass(frozen=True)
class Percentile(RangeScheme):
    """The range that holds `percentile` per cent of the values, the rest being cut half at each end."""

    name: ClassVar[str] = "percentile"
    percentile: float = 99.999

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise ValueError(f"the percentile is {self.percentile} and must be more than 50 and at most 100")

    def choose(self, measured: Range, function: Function | None = None) -> Bounds:
        """(lo, hi) of a tensor."""
        counts = measured.histogram.counts
        share = np.cumsum(counts) / max(int(counts.sum()), 1)
        cut = (1 - self.percentile / 100) / 2
        centres = measured.histogram.centres()
        lo = centres[np.searchsorted(share, cut)]
        hi = centres[min(int(np.searchsorted(share, 1 - cut)), len(centres) - 1)]
        full = extremes(measured)
        return max(min(float(lo), 0.0), full[0]), min(max(float(hi), 0.0), full[1])
