"""checked.onnx, ranges.json, histograms.npz -> quantized.onnx: a standard QDQ model that Netron shows and onnxruntime runs."""

from collections.abc import Mapping
from pathlib import Path

import onnx

from axforge.axcompiler import container
from axforge.axcompiler.calibrate import statistics
from axforge.axcompiler.calibrate.statistics import Statistics
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.placement.plan import Plan, is_quantized, make_plan
from axforge.axcompiler.quantize import ranges
from axforge.axcompiler.quantize.algorithms import split_channels
from axforge.axcompiler.quantize.algorithms.clipping import Function
from axforge.axcompiler.quantize.functions import function_of
from axforge.axcompiler.quantize.writer import Writer
from axforge.axcompiler.stages import Progress, QuantizeConfig

__all__ = ["quantize", "run"]

SCHEMES = ("minmax", "mse", "percentile")


def run(inputs: Mapping[str, Path], config: QuantizeConfig, out: Path, progress: Progress) -> None:
    """checked.onnx, ranges.json, histograms.npz -> quantized.onnx. A model that came quantized passes through as it is.

    Raises CompileError: unknown scheme, percentile or node name, statistics that do not belong to the model.
    """
    progress(0, 2, "reading")
    model = onnx.load_model(inputs["checked.onnx"])
    measured = statistics.load(inputs["ranges.json"], inputs["histograms.npz"])
    progress(1, 2, "quantizing")
    result = model if is_quantized(model) else quantize(model, measured, config)
    container.write_atomic(out / "quantized.onnx", result.SerializeToString(deterministic=True))
    progress(2, 2, "done")


def quantize(model: onnx.ModelProto, measured: Statistics, config: QuantizeConfig) -> onnx.ModelProto:
    """The QDQ model of a checked float model."""
    if config.scheme not in SCHEMES:
        raise CompileError(f"quantize.scheme is '{config.scheme}', which is unknown", where="quantize", fix=f"Use {', '.join(SCHEMES)}.")
    if not 50 < config.percentile <= 100:
        raise CompileError(f"quantize.percentile is {config.percentile}", where="quantize", fix="Use more than 50 and at most 100.")
    model, parts = split_channels.apply(model, measured.splits)
    plan = make_plan(model, [name for given in config.exclude for name in parts.get(given, (given,))], measured.masked)
    functions = _functions(plan, list(model.opset_import)) if config.scheme == "mse" else {}
    quants = ranges.assign(plan, measured, config, functions)
    return Writer(model, plan, quants, measured.means).write()


def _functions(plan: Plan, opsets: list[onnx.OperatorSetIdProto]) -> dict[str, Function]:
    """Tensors that are read by one table and nothing else, with its function."""
    found = {}
    for name in plan.sources:
        readers = plan.readers.get(name, ())
        if len(readers) == 1 and readers[0] in plan.aipu - plan.fused and plan.parts[readers[0]].region and name not in plan.view.outputs:
            found[name] = function_of(plan.view, plan.parts[readers[0]], opsets)
    return found
