"""Keeps the whole range."""

from dataclasses import dataclass
from typing import ClassVar

from axforge.axcompiler.quantize.range_scheme import Bounds, Function, RangeScheme, extremes, range_scheme
from axforge.axcompiler.statistics.base import Range


@range_scheme
@dataclass(frozen=True)
class MinMax(RangeScheme):
    """The exact extremes."""

    name: ClassVar[str] = "minmax"

    def choose(self, measured: Range, function: Function | None = None) -> Bounds:
        """(lo, hi) of a tensor."""
        return extremes(measured)
