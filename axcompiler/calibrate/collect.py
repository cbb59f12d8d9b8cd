"""The calibrate stage: one pass over the samples collects all statistics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path

import numpy as np
import onnx

from axforge.axcompiler.ahead import ahead
from axforge.axcompiler.algorithm import switched_on
from axforge.axcompiler.calibrate.batches import F32, ProbeBatch, finite, observation, probe_batches
from axforge.axcompiler.calibrate.collectors import Collectors
from axforge.axcompiler.calibrate.feeds import Feeds, Sample, checked_feeds, input_extremes
from axforge.axcompiler.calibrate.rewriting import rewritten
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.onnx_graph.qdq import is_quantized
from axforge.axcompiler.onnx_graph.views import ModelView
from axforge.axcompiler.placement.masks import MASK, scores
from axforge.axcompiler.placement.plan import make_plan
from axforge.axcompiler.rewrites import REWRITES
from axforge.axcompiler.stages import CalibrateConfig, Progress
from axforge.axcompiler.statistics import STANDARD, STATISTICS, artefacts
from axforge.axcompiler.statistics.artefacts import Statistics
from axforge.axcompiler.statistics.examples import Examples

#: each tensor is measured in at least this many samples (in all, if there are fewer); with more samples the probe batches alternate
SAMPLES_EACH = 16
MAX_PROBE_BATCHES = 4


def run(inputs: Mapping[str, Path], config: CalibrateConfig, out: Path, progress: Progress, *, samples: Iterable[Sample]) -> None:
    """checked.onnx -> ranges.json, histograms.npz, samples.npz. samples: feeds of the model by input name; a length is for progress.

    A model that came quantized needs no ranges: the artefacts are empty and no sample is read.
    Raises CompileError: no samples, wrong names, shapes or types, values that are not finite (naming tensor and sample), unknown
    algorithms, options or statistics.
    """
    model = onnx.load_model(inputs["checked.onnx"])
    result = Statistics() if is_quantized(model.graph.node) else collect(model, config, samples, progress)
    artefacts.save(result, out)


def collect(model: onnx.ModelProto, config: CalibrateConfig, samples: Iterable[Sample], progress: Progress) -> Statistics:
    """The standard statistics and those that `config` asks for, measured on `model` as the algorithms of `config` leave it.

    Inputs and results are measured in every sample; of 2 * SAMPLES_EACH samples and more, each other tensor in every second (third,
    fourth) one. Samples that do not say how many they are are all measured whole.
    """
    total = len(samples) if isinstance(samples, Sized) else 0
    kinds = [*STANDARD, *(STATISTICS.find(name, "calibrate.statistics") for name in config.statistics)]
    algorithms = switched_on(REWRITES, {"split_channels": config.split_channels, **config.algorithms})
    model, decisions, samples = rewritten(model, algorithms, samples)
    plan = make_plan(model)
    points = [point for kind in kinds for point in kind.points(plan)]
    if not points:
        return Statistics()
    batches = probe_batches(model, plan, points, max(1, min(MAX_PROBE_BATCHES, total // SAMPLES_EACH)))
    collectors = Collectors(plan, points, batches, config.bins)
    result, examples = Statistics(decisions=decisions), Examples()
    floors = dict.fromkeys(scores(plan), MASK)
    # all that reads a sample is done before the next one is asked for, which may be made in the same memory
    for i, extremes, batch, seen in ahead(_computed(plan.view, batches, samples, examples, floors), most=1):
        collectors.widen(extremes)
        for probe in batch.probes:
            found = observation(probe, seen)
            observed = finite(found, probe.tensor, i, floors.get(probe.tensor, -np.inf))
            collectors.add(probe.tensor, observed)
            if observed.masked:
                (result.masked if found.lo == -np.inf else result.saturated).add(probe.tensor)
        result.samples += 1
        progress(i + 1, max(total, i + 1), "calibrating")
    if result.samples < len(batches):
        raise CompileError(
            f"there are {result.samples or 'no'} calibration samples", where="calibrate", fix="Give at least one sample, better a hundred."
        )
    collectors.store(result)
    result.examples = examples.result()
    return result


def _computed(
    view: ModelView, batches: Sequence[ProbeBatch], samples: Iterable[Sample], examples: Examples, floors: Mapping[str, float]
) -> Iterator[tuple[int, dict[str, tuple[float, float]], ProbeBatch, Mapping[str, F32]]]:
    """Number of each sample and extremes of its inputs, the batch whose turn it is, and what its probes gave; fills `examples`."""
    for i, sample in enumerate(samples):
        feeds = checked_feeds(view, sample, i)
        examples.add(i, feeds)
        batch = batches[i % len(batches)]
        yield i, _finite_extremes(feeds, i, floors), batch, batch.run(feeds, i)


def _finite_extremes(feeds: Feeds, i: int, floors: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Extremes of the inputs of sample number `i`, but for inputs that hold values at or below their floor, as masks do."""
    return {name: (lo, hi) for name, (lo, hi) in input_extremes(feeds, i).items() if lo > floors.get(name, -np.inf)}
