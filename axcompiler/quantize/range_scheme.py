"""What a range scheme is: how wide a range to keep of a tensor whose extremes and histogram are known.

A narrow range gives fine steps and cuts extremes off; a wide one the reverse. All ranges hold 0, so that zero is exact.
A scheme is a frozen dataclass in a file of its own in `schemes/`; its fields are its options.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.choices import Choices
from axforge.axcompiler.statistics.base import Range

F64 = NDArray[np.float64]
Bounds = tuple[float, float]
#: a function of one tensor, applied to every number
Function = Callable[[F64], F64]


@dataclass(frozen=True)
class RangeScheme(ABC):
    """A way to choose a range. name: what configurations call it.

    uses_function: whether it asks what a table makes of the tensor, which takes time to find out.
    """

    name: ClassVar[str]
    uses_function: ClassVar[bool] = False

    @abstractmethod
    def choose(self, measured: Range, function: Function | None = None) -> Bounds:
        """(lo, hi) of a tensor. function: what a table makes of it, if a table is all that reads it."""


_Kind = TypeVar("_Kind", bound=type[RangeScheme])
SCHEMES: Choices[RangeScheme] = Choices("range scheme")


def range_scheme(kind: _Kind) -> _Kind:
    """Register a range scheme under its name."""
    SCHEMES(kind.name)(kind)
    return kind


def extremes(measured: Range) -> Bounds:
    """The exact extremes, and 0."""
    return min(measured.lo, 0.0), max(measured.hi, 0.0)
