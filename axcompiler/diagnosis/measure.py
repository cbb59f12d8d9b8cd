"""Measures what the rounding of each tensor does to the outputs, on calibration samples.

The noise of one tensor is that of the model in which it alone is rounded, against the model in which nothing is (weights are int8 in both).
Noises of different tensors add up, nearly, so that each has a share of their sum. Remedies are tried the other way round: everything is
rounded but this tensor, or this tensor with another range.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from axforge.axcompiler.diagnosis.findings import CalibrationFinding, Diagnosis, OutputFinding, Remedy, TensorFinding
from axforge.axcompiler.diagnosis.switchable import Quantizer, Switchable
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Quant
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.onnx_graph.sessions import FloatSession
from axforge.axcompiler.quantize import schemes
from axforge.axcompiler.quantize.effect.outputs import OutputError
from axforge.axcompiler.quantize.ranges import quant_for
from axforge.axcompiler.quantize.report import UnitReport, decibels
from axforge.axcompiler.stages import Progress, silent
from axforge.axcompiler.statistics.artefacts import Statistics

F64 = NDArray[np.float64]
#: samples that remedies are tried on, and that the noise of each tensor is measured on
SAMPLES = 8
_ALONE = 4
#: what a remedy must bring to be named, in dB
LEAST_GAIN = 0.1
#: the worst tensors, for which remedies are tried
TRIED = 10
#: range schemes that are tried for them
_SCHEMES = ("minmax", "percentile", "mse", "entropy")
#: tensors whose values are held at the same time
_AT_ONCE = 48
#: bins of a histogram
_BINS = 60
#: ranges that differ by less than this share are the same
_SAME = 0.01


def diagnose(quantized: onnx.ModelProto, real: onnx.ModelProto, statistics: Statistics, progress: Progress = silent) -> Diagnosis:
    """Where the QDQ model `quantized` loses against the float model `real`. statistics: of its calibration, with the samples kept.

    Raises CompileError for a model without samples, or one that onnxruntime does not run.
    """
    if not statistics.examples:
        what = "no calibration samples were kept, as for a model that came quantized"
        raise CompileError(what, where="samples.npz", fix="Diagnose the float model that it was made from.")
    return _Measuring(Switchable(quantized), FloatSession(real, "diagnosis"), statistics, progress).run()


@dataclass
class _Local:
    """Sums over samples of one quantizer's values: low, high and quiet channels, squares, noise, products with the int8 model's."""

    lows: list[float]
    highs: list[float]
    count: int = 0
    outside: int = 0
    power: float = 0.0
    noise: float = 0.0
    product: float = 0.0
    other: float = 0.0
    quiet: NDArray[np.bool_] | None = None
    histogram: tuple[tuple[float, ...], tuple[int, ...]] = ((), ())


class _Measuring:
    def __init__(self, model: Switchable, real: FloatSession, statistics: Statistics, progress: Progress) -> None:
        self._model, self._statistics, self._progress = model, statistics, progress
        examples = statistics.examples
        self._examples = [examples[i * len(examples) // min(SAMPLES, len(examples))] for i in range(min(SAMPLES, len(examples)))]
        self._names = [quantizer.name for quantizer in model.quantizers]
        self._real = [real.run(model.outputs, example, i) for i, example in enumerate(self._examples)]
        self._plain = [model.run(example, off=self._names) for example in self._examples]

    def run(self) -> Diagnosis:
        error, plain = OutputError(self._real), OutputError(self._plain)
        each = self._errors(error, [self._model.run(example) for example in self._examples])
        all_on = np.asarray(each.mean(axis=0), np.float64)
        weights = self._error(error, self._plain)
        local = self._local()
        alone = np.stack([self._alone(plain, k) for k in range(len(self._names))]) if self._names else np.zeros((0, len(weights)))
        total = np.maximum(alone.sum(axis=0) + weights, 1e-30)
        shares = (alone / total).mean(axis=1) if alone.size else np.zeros(len(self._names))
        tried = set(np.argsort(-shares, kind="stable")[:TRIED].tolist())
        findings = []
        for k, (quantizer, share) in enumerate(zip(self._model.quantizers, shares.tolist(), strict=True)):
            remedies = self._remedies(error, each, quantizer) if k in tried else ()
            findings.append(_finding(quantizer, local[quantizer.name], share, remedies))
        units = [UnitReport(u.output, u.axis, len(u.indices), 0.0).name for u in error.units]
        outputs = [OutputFinding(n, decibels(float(e)), decibels(float(w))) for n, e, w in zip(units, all_on, weights, strict=True)]
        share_of_weights = float((weights / total).mean()) if weights.size else 0.0
        return Diagnosis(len(self._examples), tuple(outputs), share_of_weights, tuple(findings), _calibration(list(local.values())))

    def _errors(self, judge: OutputError, outputs: Sequence[dict[str, Array]]) -> F64:
        """The error of each unit of the outputs in each sample: [samples, units]."""
        return np.asarray([judge.of(i, found) for i, found in enumerate(outputs)], np.float64)

    def _error(self, judge: OutputError, outputs: Sequence[dict[str, Array]]) -> F64:
        """The error of each unit of the outputs, mean of the samples."""
        return np.asarray(self._errors(judge, outputs).mean(axis=0), np.float64)

    def _alone(self, judge: OutputError, k: int) -> F64:
        """The error with quantizer `k` alone."""
        self._progress(k, len(self._names), "rounding one tensor at a time")
        off = self._names[:k] + self._names[k + 1 :]
        return self._error(judge, [self._model.run(example, off=off) for example in self._examples[:_ALONE]])

    def _remedies(self, judge: OutputError, before: F64, quantizer: Quantizer) -> tuple[Remedy, ...]:
        """What raises the ratio of the outputs, the best first."""
        self._progress(len(self._names), len(self._names), f"trying remedies for {quantizer.name}")
        exclude = f'float32: "exclude": ["{quantizer.maker}"]' if quantizer.maker else "a float32 input"
        found = [self._remedy(judge, before, exclude, off=[quantizer.name])]
        for what, quant in self._ranges(quantizer):
            found.append(self._remedy(judge, before, what, other={quantizer.name: quant}))
        return tuple(sorted((remedy for remedy in found if remedy.gain >= LEAST_GAIN), key=lambda remedy: -remedy.gain))

    def _remedy(self, judge: OutputError, before: F64, what: str, off: Sequence[str] = (), other: dict[str, Quant] | None = None) -> Remedy:
        """The gain is the median of the samples, because the noise of few samples may be most of the sum, and be helped by chance."""
        errors = self._errors(judge, [self._model.run(example, off=off, other=other) for example in self._examples])
        ratios = np.log10(np.maximum(before, 1e-30)) - np.log10(np.maximum(errors, 1e-30))
        return Remedy(what, round(10 * float(np.median(ratios.mean(axis=1))), 2) if ratios.size else 0.0)

    def _ranges(self, quantizer: Quantizer) -> Iterator[tuple[str, Quant]]:
        """The ranges by other schemes that differ from the tensor's own and from each other."""
        measured = next((self._statistics.ranges[t] for t in quantizer.tensors if t in self._statistics.ranges), None)
        known = [quantizer.bounds]
        for name in _SCHEMES if measured is not None else ():
            assert measured is not None
            lo, hi = schemes.create(name, {}, "diagnosis").choose(measured)
            if all(max(abs(lo - a), abs(hi - b)) > _SAME * (b - a) for a, b in known):
                known.append((lo, hi))
                yield f"the range of {name}: {lo:.4g} to {hi:.4g}", quant_for((lo, hi))

    def _local(self) -> dict[str, _Local]:
        """What is seen at each quantizer: the extremes in all kept samples, the rest in those that are used."""
        local = {name: _Local([], []) for name in self._names}
        examples = self._statistics.examples
        used = [id(example) for example in self._examples]
        for start in range(0, len(self._names), _AT_ONCE):
            group = self._model.quantizers[start : start + _AT_ONCE]
            names = [q.name for q in group if q.maker]
            for i, example in enumerate(examples):
                self._progress(start * len(examples) + i, len(self._names) * len(examples), "looking at tensors")
                values = {**example, **self._model.run(example, names, off=self._names)}
                int8 = {**example, **self._model.run(example, names)} if id(example) in used else {}
                for quantizer in group:
                    _look(local[quantizer.name], quantizer, np.asarray(values[quantizer.name], np.float64), int8.get(quantizer.name))
        return local


def _look(local: _Local, quantizer: Quantizer, x: F64, int8: Array | None) -> None:
    """Add one sample. x: the values in the float model; int8: in the int8 model, of samples that are used."""
    x = x[np.isfinite(x)] if not np.isfinite(x).all() else x
    local.lows.append(float(x.min(initial=0.0)))
    local.highs.append(float(x.max(initial=0.0)))
    if x.ndim > 1:
        quiet = (x == 0).all(axis=tuple(a for a in range(x.ndim) if a != 1))
        local.quiet = quiet if local.quiet is None or local.quiet.shape != quiet.shape else local.quiet & quiet
    if int8 is None:
        return
    lo, hi = quantizer.bounds
    half = quantizer.quant.scale / 2
    rounded = np.clip(np.rint(x / quantizer.quant.scale) * quantizer.quant.scale, lo, hi)
    local.count += x.size
    local.outside += int(((x < lo - half) | (x > hi + half)).sum())
    local.power += float((x * x).sum())
    local.noise += float(((rounded - x) ** 2).sum())
    y = np.asarray(int8, np.float64)
    if y.shape == x.shape:
        local.product += float((x * y).sum())
        local.other += float((y * y).sum())
    if not local.histogram[0]:
        counts, edges = np.histogram(x, bins=_BINS)
        local.histogram = tuple(edges.tolist()), tuple(counts.tolist())


def _finding(quantizer: Quantizer, local: _Local, share: float, remedies: tuple[Remedy, ...]) -> TensorFinding:
    lo, hi = quantizer.bounds
    norm = (local.power * local.other) ** 0.5
    return TensorFinding(
        tensor=quantizer.name,
        copies=len(quantizer.tensors) - 1,
        maker=quantizer.maker,
        op_type=quantizer.op_type,
        lo=lo,
        hi=hi,
        low=min(local.lows),
        high=max(local.highs),
        saturated=local.outside / max(local.count, 1),
        sqnr=decibels(local.noise / local.power) if local.power else 100.0,
        cosine=local.product / norm if norm else 1.0,
        share=share,
        channels=0 if local.quiet is None else local.quiet.size,
        quiet=0 if local.quiet is None else int(local.quiet.sum()),
        edges=local.histogram[0],
        counts=local.histogram[1],
        remedies=remedies,
    )


def _calibration(tensors: Sequence[_Local]) -> CalibrationFinding:
    """How the ranges grow from sample to sample."""
    if not tensors:
        return CalibrationFinding((), ())
    lows, highs = np.array([t.lows for t in tensors]), np.array([t.highs for t in tensors])
    reached = np.maximum.accumulate(highs, axis=1) - np.minimum.accumulate(lows, axis=1)
    width = reached[:, -1:]
    covered = np.where(width > 0, reached / np.where(width > 0, width, 1), 1.0).mean(axis=0)
    holds = (lows == lows.min(axis=1, keepdims=True)) & (lows < 0) | (highs == highs.max(axis=1, keepdims=True)) & (highs > 0)
    return CalibrationFinding(tuple(covered.tolist()), tuple(holds.sum(axis=0).tolist()))
