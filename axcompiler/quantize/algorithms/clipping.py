"""How wide a range to keep: everything (minmax), all but the rarest values (percentile), or what loses least (mse).

A narrow range gives fine steps and cuts extremes off; a wide one the reverse. All ranges hold 0, so that zero is exact.
Where a table follows (SiLU, HardSwish, ...), what counts is the error after the table: a SiLU makes nothing of -60 or -8 alike.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.calibrate.statistics import Range

F64 = NDArray[np.float64]
Bounds = tuple[float, float]
#: a function of one tensor, applied to every number
Function = Callable[[F64], F64]

#: shrinking factors that `mse` tries: for both ends together, for one end far, for one end near
_BOTH = np.linspace(1.0, 0.3, 29)
_FAR = np.geomspace(1.0, 0.02, 28)
_NEAR = np.linspace(1.15, 0.85, 21)


def choose(measured: Range, scheme: str, percentile: float, function: Function | None = None) -> Bounds:
    """(lo, hi) of a tensor by one of the schemes; `function`: what a table makes of it, if that is all that reads it."""
    if scheme == "percentile":
        return by_percentile(measured, percentile)
    return least_squares(measured, function) if scheme == "mse" else minmax(measured)


def minmax(measured: Range) -> Bounds:
    """The exact extremes, and 0."""
    return min(measured.lo, 0.0), max(measured.hi, 0.0)


def by_percentile(measured: Range, percentile: float) -> Bounds:
    """The range that holds `percentile` per cent of the values, the rest being cut half at each end."""
    counts = measured.histogram.counts
    share = np.cumsum(counts) / max(int(counts.sum()), 1)
    cut = (1 - percentile / 100) / 2
    centres = measured.histogram.centres()
    lo = centres[np.searchsorted(share, cut)]
    hi = centres[min(int(np.searchsorted(share, 1 - cut)), len(centres) - 1)]
    full = minmax(measured)
    return max(min(float(lo), 0.0), full[0]), min(max(float(hi), 0.0), full[1])


def least_squares(measured: Range, function: Function | None = None) -> Bounds:
    """The bounds whose int8 codes have the least mean squared error (after `function`) over the histogram."""
    full = minmax(measured)
    counts = measured.histogram.counts
    used = counts > 0
    centres, weights = measured.histogram.centres()[used], counts[used].astype(np.float64)
    if full == (0.0, 0.0) or not len(centres):
        return full
    search = _Search(centres, weights, function)
    best = search.best(full[0] * _BOTH, full[1] * _BOTH)
    for factors in (_FAR, _FAR, _NEAR, _NEAR):
        lows = np.clip(factors * (full[0] if factors is _FAR else best[0]), full[0], 0)
        best = search.best(np.append(lows, best[0]), np.full(len(lows) + 1, best[1]))
        highs = np.clip(factors * (full[1] if factors is _FAR else best[1]), 0, full[1])
        best = search.best(np.full(len(highs) + 1, best[0]), np.append(highs, best[1]))
    return best


class _Search:
    """Values with weights, and the candidate of least error among pairs of bounds."""

    def __init__(self, values: F64, weights: F64, function: Function | None) -> None:
        self._x, self._weights, self._function = values, weights, function
        self._y = values if function is None else function(values)

    def best(self, lo: F64, hi: F64) -> Bounds:
        """The pair (lo[i], hi[i]) of least error; of equals the widest."""
        lo, hi = lo[hi > lo], hi[hi > lo]
        step = np.maximum((hi - lo) / 255, 1e-300)[:, None]
        zero = np.clip(np.rint(-128 - lo[:, None] / step), -128, 127)
        table = (np.arange(-128.0, 128.0) - zero) * step
        if self._function is not None:
            table = self._function(table.reshape(-1)).reshape(table.shape)
        code = np.clip(np.rint(self._x / step) + zero, -128, 127).astype(np.int16) + 128
        error = (np.take_along_axis(table, code, axis=1) - self._y) ** 2 @ self._weights
        i = int(np.lexsort((lo - hi, error))[0])
        return float(lo[i]), float(hi[i])
