"""Lets algorithms rewrite the float model before it is measured, from statistics of a few samples."""

import itertools
from collections.abc import Iterable, Sequence

import onnx

from axforge.axcompiler.calibrate.batches import observation, probe_batches
from axforge.axcompiler.calibrate.collectors import Collectors
from axforge.axcompiler.calibrate.feeds import Sample, checked_feeds
from axforge.axcompiler.placement.plan import Plan, make_plan
from axforge.axcompiler.rewrites.base import RewritingAlgorithm
from axforge.axcompiler.statistics.artefacts import Decision, Statistics
from axforge.axcompiler.statistics.base import StatisticPoint

#: of histograms, should an algorithm ask for one
BINS = 2048
#: samples that are looked at; what matters is whether channels differ tenfold, which shows at once
SAMPLES = 4


def rewritten(
    model: onnx.ModelProto, algorithms: Sequence[RewritingAlgorithm], samples: Iterable[Sample]
) -> tuple[onnx.ModelProto, dict[str, Decision], Iterable[Sample]]:
    """The model after all `algorithms`, what each decided, and all samples, the first few of which were looked at.

    One algorithm after another, because each measures what the one before it left.
    """
    decisions: dict[str, Decision] = {}
    for algorithm in algorithms:
        plan = make_plan(model)
        points = list(dict.fromkeys(algorithm.needs(plan)))
        if points or not algorithm.on:  # what is on for every model leaves no trace where it does not apply
            decisions[algorithm.name] = {}
        rest = iter(samples)
        first = list(itertools.islice(rest, SAMPLES)) if points else []
        samples = itertools.chain(first, rest) if points else samples
        if first:
            decisions[algorithm.name] = algorithm.decide(plan, _measured(model, plan, points, first))
        if decisions.get(algorithm.name):
            model, _ = algorithm.rewrite(model, decisions[algorithm.name])
    return model, decisions, samples


def _measured(model: onnx.ModelProto, plan: Plan, points: Sequence[StatisticPoint], samples: Sequence[Sample]) -> Statistics:
    """The statistics of a few samples. Values that are not finite are left to the statistic; the pass over all samples reports them."""
    result = Statistics(samples=len(samples))
    if not points:
        return result
    (batch,) = probe_batches(model, plan, points, 1)
    collectors = Collectors(plan, points, [batch], bins=BINS)
    for i, sample in enumerate(samples):
        seen = batch.run(checked_feeds(plan.view, sample, i), i)
        for probe in batch.probes:
            collectors.add(probe.tensor, observation(probe, seen))
    collectors.store(result)
    return result
