"""How wide a range to keep: everything (minmax), all but the rarest values (percentile), or what loses least (mse).

A narrow range gives fine steps and cuts extremes off; a wide one the reverse. All ranges hold 0, so that zero is exact.
"""

import numpy as np
from numpy.typing import NDArray

from axcompiler.calibrate.statistics import Range

F64 = NDArray[np.float64]
Bounds = tuple[float, float]

#: shrinking factors that `mse` tries, for both ends together and then for each end alone
_COARSE = np.linspace(1.0, 0.3, 36)
_FINE = np.linspace(1.0, 0.6, 21)


def choose(measured: Range, scheme: str, percentile: float) -> Bounds:
    """(lo, hi) of a tensor by one of the schemes."""
    if scheme == "percentile":
        return _by_percentile(measured, percentile)
    return least_squares(measured) if scheme == "mse" else minmax(measured)


def minmax(measured: Range) -> Bounds:
    """The exact extremes, and 0."""
    return min(measured.lo, 0.0), max(measured.hi, 0.0)


def _by_percentile(measured: Range, percentile: float) -> Bounds:
    counts = measured.histogram.counts
    share = np.cumsum(counts) / max(int(counts.sum()), 1)
    cut = (1 - percentile / 100) / 2
    centres = measured.histogram.centres()
    lo = centres[np.searchsorted(share, cut)]
    hi = centres[min(int(np.searchsorted(share, 1 - cut)), len(centres) - 1)]
    full = minmax(measured)
    return max(min(float(lo), 0.0), full[0]), min(max(float(hi), 0.0), full[1])


def least_squares(measured: Range) -> Bounds:
    """The bounds whose int8 codes have the least mean squared error over the histogram."""
    full = minmax(measured)
    counts = measured.histogram.counts
    used = counts > 0
    centres, weights = measured.histogram.centres()[used], counts[used].astype(np.float64)
    if full == (0.0, 0.0) or not len(centres):
        return full
    best = _best(centres, weights, full[0] * _COARSE, full[1] * _COARSE)
    for _ in range(2):
        lo, hi = best
        lows = np.unique(np.concatenate([lo * _FINE, np.minimum(full[0], lo * (2 - _FINE))]).clip(full[0], 0))
        best = _best(centres, weights, lows, np.full(len(lows), hi))
        lo, hi = best
        highs = np.unique(np.concatenate([hi * _FINE, np.maximum(full[1], hi * (2 - _FINE))]).clip(0, full[1]))
        best = _best(centres, weights, np.full(len(highs), lo), highs)
    return best


def _best(x: F64, weight: F64, lo: F64, hi: F64) -> Bounds:
    """The pair (lo[i], hi[i]) of least error; the widest of equals."""
    step = np.maximum((hi - lo) / 255, 1e-300)[:, None]
    zero = np.clip(np.rint(-128 - lo[:, None] / step), -128, 127)
    code = np.clip(np.rint(x / step) + zero, -128, 127)
    error = ((code - zero) * step - x) ** 2 @ weight
    # a value at the centre of its bin stands for all of the bin, so equal steps have equal error: prefer keeping more
    i = int(np.lexsort((lo - hi, error))[0])
    return float(lo[i]), float(hi[i])
