"""Sums up what the probes give: one collector for each statistic of each tensor."""

from collections.abc import Iterable, Mapping, Sequence

from axforge.axcompiler.calibrate.batches import ProbeBatch
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.statistics.artefacts import Statistics
from axforge.axcompiler.statistics.base import Collector, Observation, Range, Sampling, StatisticPoint
from axforge.axcompiler.statistics.ranges import RangeCollector


class Collectors:
    """The collectors of all points. bins: of each histogram."""

    def __init__(self, plan: Plan, points: Iterable[StatisticPoint], batches: Sequence[ProbeBatch], bins: int) -> None:
        probes = {probe.tensor: probe for batch in batches for probe in batch.probes}
        self._collectors: dict[str, dict[str, Collector]] = {}
        for point in dict.fromkeys(points):  # two algorithms may need the same
            probe = probes[point.tensor]
            sampling = Sampling(plan.view.shapes[point.tensor], probe.row, probe.stride, bins)
            known = self._collectors.setdefault(point.tensor, {})
            assert point.statistic.name not in known, f"'{point.tensor}' has two statistics named '{point.statistic.name}'"
            known[point.statistic.name] = point.statistic.collector(sampling)

    def widen(self, extremes: Mapping[str, tuple[float, float]]) -> None:
        """Take in exact extremes of tensors, for those whose range is collected."""
        for tensor, (lo, hi) in extremes.items():
            for collector in self._collectors.get(tensor, {}).values():
                if isinstance(collector, RangeCollector):
                    collector.widen(lo, hi)

    def add(self, tensor: str, seen: Observation) -> None:
        """Take in what the probe of a tensor gave for one sample."""
        for collector in self._collectors[tensor].values():
            collector.add(seen)

    def store(self, statistics: Statistics) -> None:
        """Write all results into `statistics`."""
        for tensor, collectors in self._collectors.items():
            for name, collector in collectors.items():
                result = collector.result()
                if isinstance(result, Range):
                    statistics.ranges[tensor] = result
                else:
                    statistics.channels.setdefault(name, {})[tensor] = result
