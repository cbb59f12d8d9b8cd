"""The quantize stage: applies the algorithms that the configuration chooses, and writes the QDQ model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from axforge.axcompiler import container
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Quant
from axforge.axcompiler.onnx_graph.qdq import is_quantized
from axforge.axcompiler.placement.plan import Plan, make_plan
from axforge.axcompiler.quantize import choice
from axforge.axcompiler.quantize.algorithm import Phase, Quantization, QuantizingAlgorithm
from axforge.axcompiler.quantize.layers import QuantizedLayer, quantized_layers
from axforge.axcompiler.quantize.report import QuantizationReport
from axforge.axcompiler.quantize.writer import Writer
from axforge.axcompiler.rewrites import REWRITES
from axforge.axcompiler.stages import CALIBRATION, Progress, QuantizeConfig, silent
from axforge.axcompiler.statistics import STANDARD, artefacts
from axforge.axcompiler.statistics.artefacts import Statistics

AGAIN = "Run the calibrate stage again."


def run(inputs: Mapping[str, Path], config: QuantizeConfig, out: Path, progress: Progress) -> None:
    """checked.onnx and what calibrate wrote -> quantized.onnx, quantization.json. A model that came quantized passes through as it is.

    Raises CompileError: unknown scheme, algorithm, option or node name, bad percentile, statistics that do not belong to the model.
    """
    progress(0, 1, "reading")
    model = onnx.load_model(inputs["checked.onnx"])
    measured = artefacts.load(*(inputs[name] for name in CALIBRATION))
    progress(0, 1, "quantizing")
    result, report = (model, QuantizationReport()) if is_quantized(model.graph.node) else quantize(model, measured, config, progress)
    container.write_atomic(out / "quantized.onnx", result.SerializeToString(deterministic=True))
    container.write_atomic(out / "quantization.json", report.to_json())
    progress(1, 1, "done")


def quantize(
    model: onnx.ModelProto, measured: Statistics, config: QuantizeConfig, progress: Progress = silent
) -> tuple[onnx.ModelProto, QuantizationReport]:
    """The QDQ model of a checked float model, and what was chosen."""
    chosen = choice.for_quantize(config)
    model, replaced = _rewritten(model, measured)
    exclude = [name for given in config.exclude for name in replaced.get(given, (given,))]
    plan = make_plan(model, exclude, measured.masked)
    _check_calibration(config, chosen, plan, measured)

    def layers_for(activations: dict[str, Quant]) -> dict[str, QuantizedLayer]:
        made = Quantization(model, plan, layers_for, activations, quantized_layers(plan, activations))
        _apply(Phase.LAYERS, chosen, made, measured)
        return made.layers

    quantization = Quantization(model, plan, layers_for, progress=progress)
    _apply(Phase.ACTIVATIONS, chosen, quantization, measured)
    quantization.layers = layers_for(quantization.activations)
    return Writer(model, plan, quantization.activations, quantization.layers).write(), quantization.report


def _check_calibration(config: QuantizeConfig, chosen: Sequence[QuantizingAlgorithm], plan: Plan, measured: Statistics) -> None:
    """Raise CompileError for an algorithm that should have taken part in the calibration, or whose statistics were not collected."""
    fix = "Name it in the configuration of the calibrate stage too, and calibrate again."
    for name, options in config.algorithms.items():
        if name in REWRITES and options is not False and name not in measured.decisions and _applies(name, plan):
            raise CompileError(f"algorithm '{name}' was not on while calibrating", where=f"quantize.algorithms.{name}", fix=fix)
    for algorithm in chosen:
        for kind in algorithm.needs:
            if kind not in STANDARD and kind.name not in measured.channels and list(kind.points(plan)):
                what = f"the statistic '{kind.name}', which algorithm '{algorithm.name}' needs, was not collected"
                raise CompileError(what, where=f"quantize.algorithms.{algorithm.name}", fix=fix)


def _applies(name: str, plan: Plan) -> bool:
    """Whether a rewriting algorithm would have left a decision: one that is always on leaves none where it has nothing to look at."""
    return not REWRITES[name].on or bool(list(REWRITES.create(name, {}, "quantize").needs(plan)))


def _rewritten(model: onnx.ModelProto, measured: Statistics) -> tuple[onnx.ModelProto, dict[str, tuple[str, ...]]]:
    """The model as it was measured, and the names of the nodes that replace nodes of the checked model.

    What calibration decided is done again, whatever the configuration says now: the ranges are of that model.
    """
    replaced: dict[str, tuple[str, ...]] = {}
    for name, decision in sorted(measured.decisions.items()):
        algorithm = REWRITES.create(name, {}, "ranges.json")
        if decision:
            try:
                model, names = algorithm.rewrite(model, decision)
            except (KeyError, ValueError) as e:
                raise CompileError(f"the calibration results are of another model ({e})", where="ranges.json", fix=AGAIN) from e
            replaced = {old: tuple(n for new in news for n in names.get(new, (new,))) for old, news in replaced.items()} | {
                old: news for old, news in names.items() if not any(old in r for r in replaced.values())
            }
    return model, replaced


def _apply(phase: Phase, chosen: Sequence[QuantizingAlgorithm], quantization: Quantization, measured: Statistics) -> None:
    for algorithm in chosen:
        if algorithm.phase == phase:
            algorithm.apply(quantization, measured)
