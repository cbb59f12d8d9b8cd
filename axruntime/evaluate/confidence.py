"""How far figures of accuracy can be trusted: an interval for each figure, and for the loss from one model to another.

Shares of samples (top-1, recall@1) get exact intervals (Clopper and Pearson); the loss between two models on the same samples gets Tango's
score interval, and is significant by the exact test of McNemar. Other figures (mAP, mIoU) are computed again for samples drawn with
replacement, the same for both models (bootstrap), and the intervals are those of a normal distribution with the deviation found. The seed
is fixed: the same measurements give the same intervals.
"""

import math
from collections.abc import Callable
from typing import Any, Self

import msgspec
import numpy as np

from axforge.axruntime.lazy import Array
from axforge.axruntime.results.result import Metric

#: Probability with which an interval holds the true figure.
LEVEL = 0.95
#: Samples below which nothing is claimed: intervals of all kinds are too wide, or wrong.
FEWEST = 20
_SEED = 2024
#: The normal distribution's quantile for LEVEL.
_Z = 1.959963984540054


class Interval(msgspec.Struct, frozen=True):
    """low, high: in per cent, or in points for a loss."""

    low: float
    high: float


class Loss(msgspec.Struct, frozen=True):
    """What a model loses against another on the same samples, in points. significant: it is hardly chance."""

    points: float
    interval: Interval
    significant: bool


class Spread(msgspec.Struct, frozen=True):
    """What is known of the figures of one model.

    outcomes: of each share, whether each sample was right. draws: each other figure as it was computed again and again.
    """

    samples: int
    values: dict[str, float]
    outcomes: dict[str, Array]
    draws: dict[str, Array]

    @classmethod
    def of(cls, metric: Metric[Any, Any]) -> Self:
        """Of the results that were added to `metric`."""
        count, values, outcomes = metric.count(), metric.values(), metric.outcomes()
        rest = [name for name in values if name not in outcomes]
        if not rest or count < 2:
            return cls(count, values, outcomes, {})
        rng = np.random.default_rng(_SEED)
        drawn = [metric.resampled(rng.integers(0, count, count).tolist()).values() for _ in range(metric.draws)]
        return cls(count, values, outcomes, {name: np.array([row[name] for row in drawn]) for name in rest})

    def interval(self, name: str) -> Interval:
        """The interval of a figure; all there is when one sample or none was measured."""
        if name in self.outcomes:
            return share_interval(int(self.outcomes[name].sum()), self.outcomes[name].size)
        if name not in self.draws:
            return Interval(0.0, 100.0)
        found = _around(self.values[name], self.draws[name])
        return Interval(max(found.low, 0.0), min(found.high, 100.0))

    def loss_from(self, reference: "Spread", name: str) -> Loss:
        """What this model loses in a figure against `reference`, which was measured on the same samples."""
        points = reference.values[name] - self.values[name]
        if name in self.outcomes:
            before, after = reference.outcomes[name], self.outcomes[name]
            lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
            interval = paired_interval(lost, gained, before.size)
            return Loss(points, interval, before.size >= FEWEST and sign_test(lost, gained) < 1 - LEVEL)
        if name not in self.draws or name not in reference.draws:
            return Loss(points, Interval(-100.0, 100.0), False)
        interval = _around(points, reference.draws[name] - self.draws[name])
        return Loss(points, interval, self.samples >= FEWEST and (interval.low > 0 or interval.high < 0))


def share_interval(right: int, count: int) -> Interval:
    """The exact interval of a share, `right` of `count`, in per cent (Clopper and Pearson)."""
    if not count:
        return Interval(0.0, 100.0)
    tail = (1 - LEVEL) / 2
    low = 0.0 if right == 0 else _root(lambda p: _at_least(right, count, p) - tail)
    high = 1.0 if right == count else _root(lambda p: tail - 1 + _at_least(right + 1, count, p))
    return Interval(100 * low, 100 * high)


def paired_interval(lost: int, gained: int, count: int) -> Interval:
    """The interval of (lost - gained) / count, in points (Tango's score).

    Of `count` samples, `lost` are right with the first model only, and `gained` with the second only.
    """
    if not count:
        return Interval(-100.0, 100.0)

    def score(delta: float) -> float:
        a, c = 2 * count, -gained * delta * (1 - delta)
        b = -lost - gained + (2 * count - lost + gained) * delta
        share = max((math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a), 0.0)
        variance = count * (2 * share + delta * (1 - delta))
        return (lost - gained - count * delta) / math.sqrt(max(variance, 1e-12))

    low = _root(lambda delta: _Z - score(delta), -1 + 1e-9, 1 - 1e-9)
    high = _root(lambda delta: -_Z - score(delta), -1 + 1e-9, 1 - 1e-9)
    return Interval(100 * low, 100 * high)


def sign_test(lost: int, gained: int) -> float:
    """How probable so unequal numbers are by chance (McNemar's exact test, two-sided)."""
    few, all_ = min(lost, gained), lost + gained
    return min(1.0, 2 * (1 - _at_least(few + 1, all_, 0.5))) if all_ else 1.0


def _at_least(k: int, count: int, p: float) -> float:
    """The probability of `k` or more successes in `count` trials."""
    if k > count:
        return 0.0
    i = np.arange(1, count + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log(count - i + 1) - np.log(i))])
    n = np.arange(count + 1)
    return float(np.exp(ways + n * math.log(p) + (count - n) * math.log1p(-p))[k:].sum())


def _root(rising: Callable[[float], float], low: float = 1e-12, high: float = 1 - 1e-12) -> float:
    """Where a rising function crosses 0, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def _around(value: float, draws: Array) -> Interval:
    reach = _Z * float(np.std(draws, ddof=1))
    return Interval(value - reach, value + reach)
