"""The error of a network's outputs against those of the float model, for each output apart and without a unit.

An output may hold quantities of several units: boxes in pixels beside scores in 0..1. They differ along one axis, and in how much they
vary: where the variances of neighbours (in the order of their variances) differ tenfold, a *unit* ends. Each unit has an error of
its own, the noise divided by the signal, where the signal is what changes from sample to sample:

    a = y - mean of y over the samples        e = y of the int8 model - y
    error = (sum e² / sum a²  +  sum e² a² / sum a⁴) / 2

The first term is the usual noise-to-signal ratio. The second counts each error by the signal in its place, because in most outputs
(scores of boxes, of characters) a few large values are the answer and all others the background.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
#: variances of two units differ by more than this factor
UNIT_RATIO = 10.0
#: units of one output at most
MOST_UNITS = 4
#: an output that changes by less than this share of its values from sample to sample counts as changing by that much
LEAST_SIGNAL = 1e-3
#: numbers are seen as shares of the largest one of their output in the float model, and those beyond this one count as it
LARGEST = 1e3
#: of an output that cannot be compared: another shape, or not one value right
ALL_WRONG = 1e6


@dataclass(frozen=True)
class OutputUnit:
    """Part of an output. output: its name. axis, indices: the slices of one sample's output that belong to it; axis -1: all of it."""

    output: str
    axis: int
    indices: tuple[int, ...]

    def sum(self, values: F32) -> float:
        """The sum of the values of this unit in an output."""
        if self.axis < 0:
            return float(values.sum(dtype=np.float64))
        others = tuple(a for a in range(values.ndim) if a != self.axis)
        return float(values.sum(axis=others, dtype=np.float64)[list(self.indices)].sum())


class OutputError:
    """Compares outputs with those of the float model. references: of each sample, the outputs of the float model by name."""

    def __init__(self, references: Sequence[Mapping[str, Array]]) -> None:
        self._references = references
        self._largest: dict[str, float] = {}
        self._reals: dict[str, list[F32]] = {}
        self._signals: dict[str, list[F32]] = {}
        self.units: list[OutputUnit] = []
        self._sums: list[tuple[float, float]] = []
        for name, first in references[0].items():
            if first.size and all(r[name].shape == first.shape for r in references):
                self._add(name)

    def _add(self, name: str) -> None:
        finite = [np.abs(r[name][np.isfinite(r[name])], dtype=np.float64).max(initial=0.0) for r in self._references]
        self._largest[name] = largest = float(max(finite)) or 1.0
        self._reals[name] = [_share(r[name], largest) for r in self._references]
        values = np.stack(self._reals[name])
        mean = values.mean(axis=0, dtype=np.float64) if len(values) > 2 else np.float64(values.mean(dtype=np.float64))
        signals = (values - mean).astype(np.float32)
        self._signals[name] = [signal**2 for signal in signals]
        for unit in _units(name, np.mean(self._signals[name], axis=0, dtype=np.float64)):
            self.units.append(unit)
            count = values[0].size if unit.axis < 0 else values[0].size * len(unit.indices) // values[0].shape[unit.axis]
            least = LEAST_SIGNAL**2 if unit.axis < 0 else 0.0
            squares = float(np.mean([unit.sum(s) for s in self._signals[name]]))
            fourths = float(np.mean([unit.sum(s**2) for s in self._signals[name]]))
            self._sums.append((max(squares, least * count, 1e-30), max(fourths, least**2 * count, 1e-30)))

    def of(self, i: int, outputs: Mapping[str, Array]) -> F64:
        """The error of each unit for sample number `i`."""
        errors = np.full(len(self.units), ALL_WRONG)
        products: dict[str, tuple[F32, F32]] = {}
        for k, (unit, (squares, fourths)) in enumerate(zip(self.units, self._sums, strict=True)):
            name = unit.output
            real = self._reals[name][i]
            if outputs[name].shape != real.shape:
                continue
            if name not in products:
                noise = (_share(outputs[name], self._largest[name]) - real) ** 2
                products[name] = noise, noise * self._signals[name][i]
            noise, weighted = products[name]
            errors[k] = min((unit.sum(noise) / squares + unit.sum(weighted) / fourths) / 2, ALL_WRONG)
        return errors


def loss(errors: F64) -> float:
    """One number for the errors of all units: the mean of the amplitudes of their noise, each as a share of noise and signal together.

    A unit that is lost altogether counts 1 and not more, so that the others still matter.
    """
    return float(np.sqrt(errors / (1 + errors)).mean()) if errors.size else 0.0


def _share(values: Array, largest: float) -> F32:
    """Values as shares of `largest`, all of them finite."""
    share = np.asarray(values, np.float32) * np.float32(1 / largest)
    return np.nan_to_num(share, nan=0.0, posinf=LARGEST, neginf=-LARGEST).clip(-LARGEST, LARGEST)


def _units(name: str, power: F64) -> list[OutputUnit]:
    """The units of an output whose elements vary by `power`."""
    best: tuple[float, int, list[tuple[int, ...]]] = (UNIT_RATIO, -1, [()])
    for axis in range(1, power.ndim):
        others = tuple(a for a in range(power.ndim) if a != axis)
        levels = power.mean(axis=others)
        if len(levels) > 1 and levels.max() > 0:
            widest, groups = _groups(levels)
            best = max(best, (widest, axis, groups), key=lambda found: found[0])
    return [OutputUnit(name, best[1], indices) for indices in best[2]]


def _groups(levels: F64) -> tuple[float, list[tuple[int, ...]]]:
    """The widest ratio of neighbouring levels, and the indices of the groups between the widest ones. What never varies joins the least."""
    varying = levels > 1e-12 * levels.max()
    filled = np.where(varying, levels, levels[varying].min())
    order = np.argsort(filled, kind="stable")
    ratios = filled[order[1:]] / filled[order[:-1]]
    cuts = [int(k) for k in np.argsort(-ratios, kind="stable")[: MOST_UNITS - 1] if ratios[k] > UNIT_RATIO]
    groups = np.split(order, sorted(k + 1 for k in cuts))
    return float(ratios.max()), [tuple(sorted(int(k) for k in group)) for group in groups]
