"""Which range each tensor gets: the best scheme for all tensors, and from there whatever improves the outputs, on samples held out.

    schemes ─► ranges of all tensors by each ─► the scheme with the least loss on the held-out samples
                                                   └─► for groups of tensors, those first in which schemes differ most: the range of
                                                       another scheme. It stays if the loss falls on both halves of the samples.

A group whose trial changed the outputs is halved, the largest change first, until the budget is spent. The budget is a number of
sample runs and not a time, so that equal inputs give equal ranges on any machine.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.quantize.effect.outputs import loss
from axforge.axcompiler.quantize.range_scheme import Bounds

F64 = NDArray[np.float64]
Ranges = Mapping[str, Bounds]
#: errors of the outputs for sample number i with these ranges
Evaluate = Callable[[Ranges, int], F64]
#: ranges that differ by less than this share are not tried against each other
SAME = 0.03
#: a trial is given up after the first sample when the loss is so much larger
HOPELESS = 1.02
#: a change must lower the loss by this share of it on the samples that it is tried on
WORTHWHILE = 0.998
#: no unit of the outputs may have an amplitude of noise so much larger than with the best scheme, whatever the others gain
ANY_UNIT = 1.1


@dataclass(frozen=True)
class Effort:
    """How much is tried. tried, held_out: samples of each half. share: sample runs for each calibrated sample; most: at most so many."""

    tried: int
    held_out: int
    share: float
    most: int

    def budget(self, calibrated: int) -> int:
        """Sample runs in all."""
        return min(self.most, int(self.share * calibrated))


@dataclass
class Found:
    """The result. scheme: the best one for all tensors. ranges, origin: of each tensor its range, and the scheme that this is from.

    errors: of each unit of the outputs on the held-out samples; singles: the loss there of each scheme alone. runs: of samples.
    """

    scheme: str
    ranges: dict[str, Bounds]
    origin: dict[str, str]
    errors: F64
    singles: dict[str, float]
    runs: int = 0

    @property
    def loss(self) -> float:
        """The loss on the held-out samples."""
        return loss(self.errors)


@dataclass
class _State:
    """The ranges that are the best so far, and their errors: [samples, units], tried samples first."""

    ranges: dict[str, Bounds]
    origin: dict[str, str]
    errors: F64
    limit: F64 = field(default_factory=lambda: np.zeros(0))


class Search:
    """A search among the ranges that each scheme gives (candidates, by scheme and tensor; all schemes name the same tensors)."""

    def __init__(self, candidates: Mapping[str, Ranges], evaluate: Evaluate, tried: Sequence[int], held_out: Sequence[int]) -> None:
        self._candidates, self._evaluate = candidates, evaluate
        self._order = [*tried, *held_out]
        self._tried = len(tried)
        self._runs = 0

    def run(self, budget: int) -> Found:
        """Search until `budget` sample runs are spent; each scheme alone is always measured."""
        measured = {name: np.stack([self._errors(ranges, i) for i in self._order]) for name, ranges in self._candidates.items()}
        singles = {name: self._held_out(errors) for name, errors in measured.items()}
        ranked = sorted(singles, key=lambda name: singles[name])  # stable: of equals the first
        best = ranked[0]
        state = _State(dict(self._candidates[best]), dict.fromkeys(self._candidates[best], best), measured[best])
        state.limit = ANY_UNIT**2 * state.errors[self._tried :].mean(axis=0)
        self._improve(state, ranked, budget)
        return Found(best, state.ranges, state.origin, state.errors[self._tried :].mean(axis=0), singles, self._runs)

    def _improve(self, state: _State, ranked: Sequence[str], budget: int) -> None:
        """Try the ranges of other schemes, group by group."""
        changed: list[tuple[float, int, str, list[str]]] = []
        for number, (scheme, group) in enumerate(self._first_groups(state, ranked)):
            if self._runs >= budget:
                return
            effect, accepted = self._trial(state, scheme, group)
            if len(group) > 1 and not accepted:
                changed.append((-effect, number, scheme, group))
        number = len(changed)
        while changed and self._runs < budget:
            changed.sort()
            _, _, scheme, group = changed.pop(0)
            for half in (group[: len(group) // 2], group[len(group) // 2 :]):
                effect, accepted = self._trial(state, scheme, half)
                number += 1
                if len(half) > 1 and not accepted:
                    changed.append((-effect, number, scheme, half))

    def _first_groups(self, state: _State, ranked: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        """Groups of tensors with the scheme to try: 1, 1, 2, 2, 4, 4, ... of them, those first whose ranges differ most."""
        orders = {scheme: self._by_difference(state.ranges, scheme) for scheme in ranked}
        start, size = 0, 1
        while any(start < len(order) for order in orders.values()):
            for _ in range(2):
                for scheme, order in orders.items():
                    if order[start : start + size]:
                        yield scheme, order[start : start + size]
                start += size
            size *= 2

    def _by_difference(self, ranges: Ranges, scheme: str) -> list[str]:
        """The tensors whose range by `scheme` is another than in `ranges`, the most different first."""
        difference = {name: _difference(ranges[name], bounds) for name, bounds in self._candidates[scheme].items()}
        return sorted((name for name, d in difference.items() if d > SAME), key=lambda name: (-difference[name], name))

    def _trial(self, state: _State, scheme: str, group: Sequence[str]) -> tuple[float, bool]:
        """Give the tensors of `group` the ranges of `scheme`, and keep that if it is better: (the change of the loss, whether kept)."""
        mine = self._candidates[scheme]
        moving = [name for name in group if _difference(state.ranges[name], mine[name]) > SAME]
        if not moving:
            return 0.0, True
        ranges = {**state.ranges, **{name: mine[name] for name in moving}}
        rows: list[F64] = []
        for n, i in enumerate(self._order):
            rows.append(self._errors(ranges, i))
            old, new = loss(state.errors[: n + 1].mean(axis=0)), loss(np.mean(rows, axis=0))
            if new >= old * (HOPELESS if n + 1 < self._tried else WORTHWHILE):
                return abs(new - old), False
        errors = np.stack(rows)
        held_out = errors[self._tried :].mean(axis=0)
        effect = loss(state.errors[self._tried :].mean(axis=0)) - loss(held_out)
        if effect <= 0 or bool((held_out > state.limit + 1e-12).any()):
            return abs(effect), False
        state.ranges, state.errors = ranges, errors
        state.origin.update(dict.fromkeys(moving, scheme))
        return effect, True

    def _errors(self, ranges: Ranges, i: int) -> F64:
        self._runs += 1
        return self._evaluate(ranges, i)

    def _held_out(self, errors: F64) -> float:
        return loss(errors[self._tried :].mean(axis=0))


def _difference(a: Bounds, b: Bounds) -> float:
    """How much two ranges differ: the distance of their ends as a share of the narrower one's width."""
    narrow = min(a[1] - a[0], b[1] - b[0])
    apart = max(abs(a[0] - b[0]), abs(a[1] - b[1]))
    return apart / narrow if narrow > 0 else (0.0 if apart == 0 else np.inf)
