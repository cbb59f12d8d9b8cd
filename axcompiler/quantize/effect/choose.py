"""Runs the search on the samples that calibration kept."""

from collections.abc import Mapping
from dataclasses import replace

from axforge.axcompiler.onnx_graph.sessions import FloatSession
from axforge.axcompiler.quantize import ranges
from axforge.axcompiler.quantize.algorithm import Quantization
from axforge.axcompiler.quantize.effect.fake_quant import FakeQuantized
from axforge.axcompiler.quantize.effect.outputs import OutputError
from axforge.axcompiler.quantize.effect.search import F64, Effort, Found, Ranges, Search
from axforge.axcompiler.quantize.report import UnitReport, decibels
from axforge.axcompiler.statistics.artefacts import Statistics


def choose(quantization: Quantization, statistics: Statistics, candidates: Mapping[str, Ranges], effort: Effort) -> Found:
    """The ranges with the least effect on the outputs. candidates: by scheme, the range of every tensor that has one of its own.

    Every second kept sample is held out: it decides which scheme is the best for all tensors, and confirms what the others suggest.
    Raises CannotSimulate.
    """
    examples, plan = statistics.examples, quantization.plan
    held_out = range(0, len(examples), 2)[: effort.held_out]
    tried = range(1, len(examples), 2)[: effort.tried]
    first = next(iter(candidates.values()))
    base = replace(quantization, activations=ranges.assign(plan, statistics, first))
    base.layers = base.layers_for(base.activations)
    quantized, real = FakeQuantized(base), FloatSession(quantization.model, "quantize")
    judged = {i: k for k, i in enumerate(sorted({*tried, *held_out}))}
    error = OutputError([real.run(quantized.outputs, examples[i], i) for i in judged])
    budget = effort.budget(statistics.samples)
    runs = 0

    def evaluate(chosen: Ranges, i: int) -> F64:
        nonlocal runs
        runs += 1
        quantization.progress(min(runs, budget), max(budget, 1), "choosing ranges")
        return error.of(judged[i], quantized.run(ranges.assign(plan, statistics, chosen), examples[i], i))

    found = Search(candidates, evaluate, tried, held_out).run(budget)
    units = zip(error.units, found.errors, strict=True)
    quantization.report.outputs = [UnitReport(u.output, u.axis, len(u.indices), decibels(float(e))) for u, e in units]
    return found
