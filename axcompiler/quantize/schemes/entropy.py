"""Keeps the range whose codes tell most about the values: the least relative entropy (Kullback-Leibler divergence).

For each candidate the histogram, what is cut off counted at its ends, is compared with what 255 steps leave of it: the mean of each
step over those of its bins that are not empty. (Migacz, "8-bit inference with TensorRT", 2017, for ranges with two ends.)
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from axforge.axcompiler.quantize.range_scheme import F64, Bounds, Function, RangeScheme, extremes, range_scheme
from axforge.axcompiler.statistics.base import Range

#: shrinking factors that are tried for both ends together, and then for each end
_FACTORS = np.geomspace(1.0, 0.05, 24)
_STEPS = 255


@range_scheme
@dataclass(frozen=True)
class Entropy(RangeScheme):
    """The bounds whose codes lose the least information about the histogram."""

    name: ClassVar[str] = "entropy"

    def choose(self, measured: Range, function: Function | None = None) -> Bounds:
        """(lo, hi) of a tensor."""
        full = extremes(measured)
        counts = measured.histogram.counts.astype(np.float64)
        if full == (0.0, 0.0) or not counts.any():
            return full
        centres = measured.histogram.centres()
        best = _best(centres, counts, [(full[0] * f, full[1] * f) for f in _FACTORS])
        if full[0] < 0 < full[1]:
            best = _best(centres, counts, [best, *((full[0] * f, best[1]) for f in _FACTORS)])
            best = _best(centres, counts, [best, *((best[0], full[1] * f) for f in _FACTORS)])
        return best


def _best(centres: F64, counts: F64, candidates: list[Bounds]) -> Bounds:
    """The candidate of least divergence; of equals the first."""
    return min(candidates, key=lambda bounds: _divergence(centres, counts, bounds))


def _divergence(centres: F64, counts: F64, bounds: Bounds) -> float:
    """Relative entropy of the histogram, with its tails at the bounds, against its int8 form."""
    first, last = np.searchsorted(centres, bounds[0]), np.searchsorted(centres, bounds[1], side="right")
    if last - first < 2:
        return np.inf
    kept = counts[first:last]
    clipped = kept.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last:].sum()
    step = np.minimum((centres[first:last] - bounds[0]) * (_STEPS / (bounds[1] - bounds[0])), _STEPS - 1).astype(np.int64)
    used = kept > 0
    total, bins = np.bincount(step, kept, _STEPS), np.bincount(step, used, _STEPS)
    coarse = np.where(used, (total / np.maximum(bins, 1))[step], 0.0)
    p, q = clipped / clipped.sum(), coarse / max(coarse.sum(), 1.0)
    seen = p > 0
    # a tail beyond an empty bin has no counterpart: as if half a value were there
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], 0.5 / counts.sum()))))
