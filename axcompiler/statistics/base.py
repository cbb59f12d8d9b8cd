"""The shape of a statistic: what it needs from the probes of a tensor, and how it sums up what they give, sample by sample."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.choices import Choices
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.statistics.histogram import Histogram

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass
class Range:
    """Exact extremes lo, hi over the samples a tensor was measured in, in real numbers, and a histogram of a fixed share of its values."""

    lo: float
    hi: float
    histogram: Histogram


@dataclass(frozen=True)
class Sampling:
    """How a tensor is sampled: rows 0, stride, 2 * stride, ... of `row` values each, of a tensor of `shape`. bins: of histograms."""

    shape: tuple[int, ...]
    row: int
    stride: int
    bins: int


@dataclass(frozen=True)
class Observation:
    """What the probes of one tensor gave for one sample.

    lo, hi: smallest and largest value seen. values: the sampled values that are finite. masked: whether minus infinity was among
    them, so that `values` is incomplete. lows, highs: extremes of each channel, [N, C] (a scalar for tensors of at most two axes);
    None where no statistic needs them.
    """

    lo: float
    hi: float
    values: F32
    masked: bool
    lows: F32 | None
    highs: F32 | None


class Collector(ABC):
    """Sums up the observations of one tensor."""

    @abstractmethod
    def add(self, seen: Observation) -> None:
        """Take in one sample."""

    @abstractmethod
    def result(self) -> Range | F32 | F64:
        """The statistic over all samples."""


@dataclass(frozen=True)
class Statistic(ABC):
    """A kind of statistic with its options. A new kind may be defined beside the rewriting algorithm that decides by it.

    name: under which the artefacts keep its results. lowest, highest, values: which outputs of the probe it reads.
    from_function: whether a tensor that is an element-wise function of a measured one may be measured through that function:
    right for extremes over the whole tensor and for sampled values, wrong for the extremes of single channels.
    """

    name: ClassVar[str]
    from_function: ClassVar[bool] = False

    @property
    def lowest(self) -> bool:
        """Whether the smallest values are needed."""
        return False

    @property
    def highest(self) -> bool:
        """Whether the largest values are needed."""
        return False

    @property
    def values(self) -> bool:
        """Whether sampled values are needed."""
        return False

    @property
    def all_values(self) -> bool:
        """Whether every value is needed, and not a sample of them. Only for a rewriting algorithm, which looks at a few samples."""
        return False

    @abstractmethod
    def collector(self, sampling: Sampling) -> Collector:
        """An empty collector for one tensor."""


@dataclass(frozen=True)
class StatisticPoint:
    """One statistic of one tensor."""

    tensor: str
    statistic: Statistic


class PlacedStatistic(Statistic):
    """A kind of statistic that knows which tensors of a model it is collected for. Configurations ask for it by its name."""

    @classmethod
    @abstractmethod
    def points(cls, plan: Plan) -> Iterable[StatisticPoint]:
        """The tensors, each with the options that fit it."""


_Kind = TypeVar("_Kind", bound=type[PlacedStatistic])
STATISTICS: Choices[PlacedStatistic] = Choices("statistic")


def statistic(kind: _Kind) -> _Kind:
    """Register a statistic under its name."""
    STATISTICS(kind.name)(kind)
    return kind
