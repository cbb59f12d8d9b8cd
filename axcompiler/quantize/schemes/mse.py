"""Keeps the range that loses least: the bounds whose int8 codes have the least mean squared error over the histogram.

Where a table follows (SiLU, HardSwish, ...), what counts is the error after the table: a SiLU makes nothing of -60 or -8 alike.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from axforge.axcompiler.quantize.range_scheme import F64, Bounds, Function, RangeScheme, extremes, range_scheme
from axforge.axcompiler.statistics.base import Range

#: shrinking factors that are tried: for both ends together, for one end far, for one end near
_BOTH = np.linspace(1.0, 0.3, 29)
_FAR = np.geomspace(1.0, 0.02, 28)
_NEAR = np.linspace(1.15, 0.85, 21)


@range_scheme
@dataclass(frozen=True)
class MeanSquaredError(RangeScheme):
    """The bounds whose int8 codes have the least mean squared error, after the table if there is one."""

    name: ClassVar[str] = "mse"
    uses_function: ClassVar[bool] = True

    def choose(self, measured: Range, function: Function | None = None) -> Bounds:
        """(lo, hi) of a tensor."""
        full = extremes(measured)
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
