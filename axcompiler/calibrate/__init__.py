"""checked.onnx and samples -> ranges.json, histograms.npz: one pass over the samples, one sample in memory at a time."""

import itertools
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from axforge.axcompiler.calibrate import splitting, statistics
from axforge.axcompiler.calibrate.histogram import Histogram
from axforge.axcompiler.calibrate.means import ChannelMeans
from axforge.axcompiler.calibrate.probe import Probe, with_probes
from axforge.axcompiler.calibrate.statistics import Range, Statistics
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.placement.plan import Plan, is_quantized, layer_inputs, make_plan
from axforge.axcompiler.placement.units import region_bounds
from axforge.axcompiler.quantize.algorithms import split_channels
from axforge.axcompiler.quantize.algorithms.split_channels import Splits
from axforge.axcompiler.stages import CalibrateConfig, Progress

__all__ = ["Statistics", "collect", "run"]

Sample = Mapping[str, NDArray[Any]]

#: each tensor is measured in this many samples at least (in all, if there are fewer); with more samples the tensors take turns
SAMPLES_EACH = 16
MAX_TURNS = 4


def run(inputs: Mapping[str, Path], config: CalibrateConfig, out: Path, progress: Progress, *, samples: Iterable[Sample]) -> None:
    """checked.onnx -> ranges.json, histograms.npz. samples: feeds of the model by input name; length, if known, is for progress.

    A model that came quantized needs no ranges: both artefacts are empty and no sample is read.
    Raises CompileError: no samples, wrong names, shapes or types, values that are not finite (naming tensor and sample).
    """
    model = onnx.load_model(inputs["checked.onnx"])
    result = Statistics() if is_quantized(model) else collect(model, config, samples, progress)
    statistics.save(result, out)


def collect(model: onnx.ModelProto, config: CalibrateConfig, samples: Iterable[Sample], progress: Progress) -> Statistics:
    """Statistics of every tensor that the plan of `model`, after its channels were parted, measures.

    Inputs and results are measured in every sample; of 2 * SAMPLES_EACH samples and more, each other tensor in every second (third,
    fourth) one. Samples that do not say how many they are are all measured whole.
    """
    total = len(samples) if isinstance(samples, Sized) else 0
    model, splits, samples = _parted(model, config, samples)
    plan = make_plan(model)
    channels = layer_inputs(plan)
    wanted = {name: _extremes(plan, name) for name in plan.sources} | {n: "" for n in channels if n not in plan.sources}
    if not wanted:
        return Statistics()
    result = Statistics(ranges={name: Range(np.inf, -np.inf, Histogram.empty(config.bins)) for name in plan.sources}, splits=dict(splits))
    turns = _turns(model, plan, wanted, max(1, min(MAX_TURNS, total // SAMPLES_EACH)))
    probes = [probe for turn in turns for probe in turn.probes]
    sums = {p.tensor: ChannelMeans(plan.view.shapes[p.tensor], channels[p.tensor], p) for p in probes if p.tensor in channels}
    for i, sample in enumerate(samples):
        feeds = _feeds(plan, sample, i)
        _observe_inputs(feeds, i, result)
        turn = turns[i % len(turns)]
        seen = dict(zip(turn.names, _run(turn.session, turn.names, feeds, i), strict=True))
        for probe in turn.probes:
            _observe(probe, seen, i, result, sums)
        result.samples += 1
        progress(i + 1, max(total, i + 1), "calibrating")
    if result.samples < len(turns):
        raise CompileError(
            f"there are {result.samples or 'no'} calibration samples", where="calibrate", fix="Give at least one sample, better a hundred."
        )
    result.means = {name: s.mean() for name, s in sums.items()}
    return result


@dataclass(frozen=True)
class _Turn:
    """Some of the probes, and the part of the model that leads to them."""

    probes: list[Probe]
    names: list[str]
    session: Any


def _turns(model: onnx.ModelProto, plan: Plan, wanted: Mapping[str, str], count: int) -> list[_Turn]:
    """The tensors in at most `count` lots, from the front of the network to its end; what is derived stays with what it is derived from.

    A sample runs through one of them only, because measuring costs more than computing. Results that leave the AIPU are in all of
    them: they are never clipped, so the rarest extreme counts.
    """
    derived = _derived(plan, wanted)
    leaders = [name for name in wanted if name not in derived]
    lot = {name: k * count // len(leaders) for k, name in enumerate(leaders)}
    turns = []
    for k in sorted(set(lot.values())):
        mine = {n for n in wanted if n in plan.leaving or lot[derived[n][0] if n in derived else n] == k}
        names = {name: ends for name, ends in wanted.items() if name in mine}
        probed, probes = with_probes(model, names, plan.view.shapes, {n: d for n, d in derived.items() if {n, d[0]} <= mine})
        turns.append(_Turn(probes, [n for probe in probes for n in probe.outputs], _session(probed)))
    return turns


def _observe_inputs(feeds: Mapping[str, NDArray[Any]], i: int, result: Statistics) -> None:
    """Exact extremes of the graph's inputs, of every sample. Raises CompileError on NaN and plus infinity."""
    for name, value in feeds.items():
        if value.size and np.issubdtype(value.dtype, np.floating):
            lo, hi = float(value.min()), float(value.max())
            if not hi < np.inf:
                raise _not_finite(name, i)
            if name in result.ranges and lo > -np.inf:
                known = result.ranges[name]
                known.lo, known.hi = min(known.lo, lo), max(known.hi, hi)


def _not_finite(name: str, i: int) -> CompileError:
    return CompileError(
        f"tensor '{name}' is not finite (NaN or infinite) in sample {i}",
        where="calibrate",
        fix="Check this sample and its pre-processing; if they are right, the model itself overflows.",
    )


def _parted(model: onnx.ModelProto, config: CalibrateConfig, samples: Iterable[Sample]) -> tuple[onnx.ModelProto, Splits, Iterable[Sample]]:
    """The model with channels of unlike ranges parted, how, and the samples, of which the first few were looked at."""
    plan = make_plan(model)
    chains = split_channels.chains(plan) if config.split_channels else []
    if not chains:
        return model, {}, samples
    rest = iter(samples)
    first = list(itertools.islice(rest, splitting.SAMPLES))

    def runner(probed: onnx.ModelProto, looked_at: Sequence[Sample]) -> list[dict[str, NDArray[Any]]]:
        session = _session(probed)
        names = [o.name for o in probed.graph.output]
        return [dict(zip(names, _run(session, names, _feeds(plan, s, i), i), strict=True)) for i, s in enumerate(looked_at)]

    splits = splitting.find(model, plan, chains, first, runner) if first else {}
    return split_channels.apply(model, splits)[0], splits, itertools.chain(first, rest)


def _derived(plan: Plan, wanted: Mapping[str, str]) -> dict[str, tuple[str, list[onnx.NodeProto]]]:
    """Results of tables whose operand is measured: what is sampled of the operand tells all about them."""
    found: dict[str, tuple[str, list[onnx.NodeProto]]] = {}
    for k in sorted(plan.aipu - plan.fused):
        unit = plan.parts[k]
        source, result = unit.inputs[0] if unit.inputs else "", unit.outputs[0]
        if unit.region and result in wanted and wanted.get(source) == "lo hi" and source not in found:
            found[result] = (source, [plan.view.protos[i] for i in unit.nodes])
    return found


def _extremes(plan: Plan, name: str) -> str:
    """Which extremes of a tensor must be measured: not the lower one of what a Relu makes, which is 0 or has no effect."""
    k = plan.maker.get(name, -1)
    clipped = region_bounds(plan.view, plan.parts[k]) if k in plan.aipu else None
    return "hi" if clipped is not None and clipped[0] == 0 else "lo hi"


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # sessions take turns: waiting threads are in the way
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime raises many types that share no base but this
        raise CompileError(f"onnxruntime cannot run the model: {' '.join(str(e).split())}", where="calibrate") from e


def _run(session: Any, names: list[str], feeds: dict[str, NDArray[Any]], i: int) -> list[NDArray[Any]]:
    try:
        return list(session.run(names, feeds))
    except Exception as e:  # as above
        raise CompileError(f"onnxruntime failed on sample {i}: {' '.join(str(e).split())}", where="calibrate") from e


def _feeds(plan: Plan, sample: Sample, i: int) -> dict[str, NDArray[Any]]:
    """The sample as the model takes it. Raises CompileError on a missing, unknown or misshapen input."""
    wanted = plan.view.inputs
    if not isinstance(sample, Mapping):
        raise CompileError(
            f"sample {i} is of type {type(sample).__name__} and must be a dict: an array for each input, by its name",
            where="calibrate",
            fix=f"The model's inputs are: {', '.join(wanted)}.",
        )
    if set(sample) != set(wanted):
        raise CompileError(
            f"sample {i} has the inputs {', '.join(sorted(sample)) or 'nothing'}; the model has {', '.join(wanted)}", where="calibrate"
        )
    feeds = {}
    for name in wanted:
        value = np.asarray(sample[name])
        if value.shape != plan.view.shapes[name]:
            raise CompileError(
                f"input '{name}' of sample {i} has shape {list(value.shape)} and must have {list(plan.view.shapes[name])}",
                where="calibrate",
                fix="Check the pre-processing and the layout (N, C, H, W) of the calibration data.",
            )
        feeds[name] = value.astype(plan.view.dtypes[name], copy=False)
    return feeds


def _observe(probe: Probe, seen: Mapping[str, NDArray[Any]], i: int, result: Statistics, sums: dict[str, ChannelMeans]) -> None:
    values = seen[probe.values].reshape(-1)
    parts = [seen[name] for name in probe.outputs]
    lo, hi = float(min(p.min() for p in parts)), float(max(p.max() for p in parts))
    masked = lo == -np.inf and hi < np.inf and not np.isnan(values).any()
    if masked:  # attention masks with -inf: the tensor cannot be int8, and quantize leaves its readers in float32
        finite = values[np.isfinite(values)]
        values, hi = finite, hi if np.isfinite(hi) else 0.0
        result.masked.add(probe.tensor)
        lo = min(float(finite.min()), hi) if finite.size else min(hi, 0.0)
    if not (np.isfinite(lo) and np.isfinite(hi) and bool(np.isfinite(values).all())):
        raise _not_finite(probe.tensor, i)
    if probe.tensor in result.ranges:
        known = result.ranges[probe.tensor]
        known.lo, known.hi = min(known.lo, lo), max(known.hi, hi)
        known.histogram.add(values, lo, hi)
    if probe.tensor in sums:
        sums[probe.tensor].add(values)
