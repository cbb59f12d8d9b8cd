"""Probe batches: the part of a model that leads to some of its tensors, whose statistics come out in place of its results.

A sample runs through one batch only, because measuring costs more than computing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from axforge.axcompiler.calibrate.feeds import Feeds, not_finite
from axforge.axcompiler.calibrate.probe import OUTPUTS, Probe, with_probes
from axforge.axcompiler.onnx_graph.sessions import FloatSession
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.statistics.base import Observation, StatisticPoint

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class ProbeBatch:
    """Some of the probes, and a session that computes them."""

    probes: list[Probe]
    session: FloatSession

    def run(self, feeds: Feeds, i: int) -> dict[str, F32]:
        """The outputs of all probes for sample number `i`, by their names."""
        return self.session.run([name for probe in self.probes for name in probe.outputs], feeds, i)


def probe_batches(model: onnx.ModelProto, plan: Plan, points: Iterable[StatisticPoint], count: int) -> list[ProbeBatch]:
    """Split the tensors of `points`, front of the network to its end, into at most `count` batches; derived tensors stay with their source.

    Results that leave the AIPU are in all batches: they are never clipped, so the rarest extreme counts.
    """
    points = list(points)
    wanted = _wanted(points)
    derived = _derived(plan, wanted, {p.tensor for p in points if not p.statistic.from_function})
    leaders = [name for name in wanted if name not in derived]
    batch = {name: k * count // len(leaders) for k, name in enumerate(leaders)}
    batches = []
    whole = {p.tensor for p in points if p.statistic.all_values}
    for k in sorted(set(batch.values())):
        mine = {n for n in wanted if n in plan.leaving or batch[derived[n][0] if n in derived else n] == k}
        outputs = {name: wanted[name] for name in wanted if name in mine}
        probed, probes = with_probes(model, outputs, plan.view.shapes, {n: d for n, d in derived.items() if {n, d[0]} <= mine}, whole)
        batches.append(ProbeBatch(probes, FloatSession(probed, "calibrate")))
    return batches


def _wanted(points: Iterable[StatisticPoint]) -> dict[str, frozenset[str]]:
    """By tensor, the outputs of its probe that some statistic reads."""
    wanted: dict[str, frozenset[str]] = {}
    for point in points:
        needed = (point.statistic.lowest, point.statistic.highest, point.statistic.values)
        outputs = frozenset(name for name, need in zip(OUTPUTS, needed, strict=True) if need)
        wanted[point.tensor] = wanted.get(point.tensor, frozenset()) | outputs
    return wanted


def _derived(plan: Plan, wanted: Mapping[str, frozenset[str]], direct: set[str]) -> dict[str, tuple[str, Sequence[onnx.NodeProto]]]:
    """Results of tables whose operand is measured, but for those in `direct`: what is sampled of the operand tells all about them."""
    found: dict[str, tuple[str, Sequence[onnx.NodeProto]]] = {}
    for k in sorted(plan.aipu - plan.fused):
        unit = plan.parts[k]
        source, result = unit.inputs[0] if unit.inputs else "", unit.outputs[0]
        if unit.region and result in wanted and result not in direct and wanted.get(source) == frozenset(OUTPUTS) and source not in found:
            found[result] = (source, [plan.view.protos[i] for i in unit.nodes])
    return found


def observation(probe: Probe, seen: Mapping[str, F32]) -> Observation:
    """What a probe gave, as it is. A tensor without sampled values has none."""
    parts = [seen[name] for name in probe.outputs]
    values = seen[probe.values].reshape(-1) if probe.values else np.zeros(0, np.float32)
    lo, hi = float(min(p.min() for p in parts)), float(max(p.max() for p in parts))
    return Observation(lo, hi, values, False, seen.get(probe.lo), seen.get(probe.hi))


def finite(seen: Observation, tensor: str, i: int, floor: float = -np.inf) -> Observation:
    """The observation without values at or below `floor`, which attention masks hold. Raises CompileError on NaN and plus infinity."""
    lo, hi, values = seen.lo, seen.hi, seen.values
    masked = lo <= floor and hi < np.inf and not np.isnan(values).any()
    if masked:
        values, hi = values[np.isfinite(values) & (values > floor)], hi if hi > floor else 0.0
        lo = min(float(values.min()), hi) if values.size else min(hi, 0.0)
    if not (np.isfinite(lo) and np.isfinite(hi) and bool(np.isfinite(values).all())):
        raise not_finite(tensor, i)
    return Observation(lo, hi, values, masked, seen.lows, seen.highs)
