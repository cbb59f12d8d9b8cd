"""Chooses between the other schemes for each tensor on its own, by the error that was measured."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from axforge.axcompiler.quantize.range_scheme import F64, Bounds, Function, RangeScheme, extremes, range_scheme
from axforge.axcompiler.quantize.schemes.mse import MeanSquaredError
from axforge.axcompiler.quantize.schemes.percentile import Percentile
from axforge.axcompiler.statistics.base import Range


@range_scheme
@dataclass(frozen=True)
class PerTensor(RangeScheme):
    """The bounds of `minmax`, `percentile` or `mse`, whichever has the least mean of |error| ** power over the histogram.

    Rare values are often the ones that decide (the logits of the few boxes that hold an object), and the squared error lets `mse` cut
    them off to gain a little for the many small ones. A power above 2 counts a large error, as cutting off makes it, for more than
    many small ones, as rounding makes them; so a tensor keeps its whole range where the tail matters, and only there. With power 2
    this is `mse`. percentile: of the scheme of that name.
    """

    name: ClassVar[str] = "per_tensor"
    uses_function: ClassVar[bool] = True
    power: float = 3.0
    percentile: float = 99.999

    def __post_init__(self) -> None:
        if not 1 <= self.power <= 16:
            raise ValueError(f"the power is {self.power} and must be 1 to 16")

    def choose(self, measured: Range, function: Function | None = None) -> Bounds:
        """(lo, hi) of a tensor."""
        candidates = [
            extremes(measured),
            Percentile(self.percentile).choose(measured),
            MeanSquaredError().choose(measured, function),
        ]
        return min(candidates, key=lambda bounds: self._error(measured, bounds, function))

    def _error(self, measured: Range, bounds: Bounds, function: Function | None) -> float:
        """Mean of |error| ** power of the int8 codes for `bounds`, after the table if there is one."""
        counts = measured.histogram.counts
        x, weights = measured.histogram.centres()[counts > 0], counts[counts > 0]
        if not len(x) or bounds[0] >= bounds[1]:
            return 0.0
        y = rounded(x, bounds)
        error = y - x if function is None else function(y) - function(x)
        return float(np.average(np.abs(error) ** self.power, weights=weights))


def rounded(x: F64, bounds: Bounds) -> F64:
    """The real numbers that the int8 codes of `x` stand for."""
    step = (bounds[1] - bounds[0]) / 255
    zero = np.clip(np.rint(-128 - bounds[0] / step), -128, 127)
    return (np.clip(np.rint(x / step) + zero, -128, 127) - zero) * step
