"""Takes the node tests of the `onnx` package through all stages, from check to pack; the reference engine runs the `.axmodel`.

Each test is a small model with inputs and expected outputs. Many give as inputs what real models have as constants (weights,
shapes, axes); those run a second time with all inputs but the first made constant ("frozen").

An answer is right if
- all of it came from islands: it is within the test's own tolerance of the expected one;
- it came from the AIPU: it is within two quanta of what onnxruntime (or, where that has no implementation, ONNX's evaluator) makes of
  the quantized model in float32 (rounding operands and results to 8 bits is all that int8 may change; one quantum for a tie that
  falls to the other side, one more where a tie of an operand moved it), and its root mean square error against the expected one is
  at most 6 % of that one's span.
Answers of random operators are compared in shape only. Where the numbers of a test need more than 8 bits the second half of the
rule cannot hold; those tests are listed in COARSE, with the reason. Where onnxruntime
itself gives another answer than ONNX for the original model, that is what is expected: listed in ONNXRUNTIME_DIFFERS.
"""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from axforge.axcompiler import calibrate, graphfile, ir, optimize, pack, quantize, tile
from axforge.axcompiler.check.clean import clean
from axforge.axcompiler.check.load import check_versions
from axforge.axcompiler.check.stage import checked_model
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.operators.base import find
from axforge.axcompiler.reference import Reference
from axforge.axcompiler.stages import BY_NAME, CalibrateConfig, CheckConfig, PackConfig, QuantizeConfig, TileConfig, silent

Array = NDArray[Any]
QUANTA = 2
SPAN_SHARE = 0.06
COARSE = {
    "test_attention_4d_softcap_neginf_mask_poison": "an operand holds 1,000 next to numbers below 1",
    "test_logsoftmax_large_number": "operands around 10,000 that differ by 1 share one code",
    "test_softmax_large_number": "operands around 10,000 that differ by 1 share one code",
    "test_thresholdedrelu_example": "an operand lies on the threshold, and rounding takes it to the other side",
    "test_range_float": "a float count is cut to an integer, and rounding takes it to the other side",
    "test_round": "operands lie on ties, and rounding takes them to the other side",
}
ONNXRUNTIME_DIFFERS = {
    "test_attention_4d_causal_fp16": "float16 sums in another order",
    "test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal": "a masked score is another infinity",
    "test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal": "a masked score is another infinity",
    "test_dft": "sums in another order, near zero",
    "test_maxunpool_export_with_output_shape": "indices are taken as those of the larger result",
    "test_resize_downsample_scales_cubic_align_corners": "the result's size enters the coordinates before it is rounded",
    "test_stft": "sums in another order, near zero",
    "test_resize_downsample_scales_linear_align_corners": "the result's size enters the coordinates before it is rounded",
}
RANDOM = frozenset(("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"))


@dataclass(frozen=True)
class Case:
    """One node test. operator: what it tests. expanded: whether the model spells the operator out in simpler ones."""

    name: str
    operator: str
    domain: str
    opset: int
    expanded: bool
    model: onnx.ModelProto
    feeds: Mapping[str, Array]
    expected: tuple[Any, ...]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Outcome:
    """place: 'aipu', 'mixed' (both), 'cpu' (islands only), 'refused', 'wrong' or 'crash'. note: the refusal, or what is wrong."""

    case: str
    operator: str
    domain: str
    opset: int
    expanded: bool
    place: str
    note: str = ""


def cases() -> Iterator[Case]:
    """All node tests of the installed onnx, in its order, frozen variants after their originals."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        tests: list[Any] = [t for t in collect_testcases("") if t.model is not None]
    nodes = {t.name: t.model.graph.node[0] for t in tests}
    for test in tests:
        case = _case(test, nodes)
        yield case
        if find(case.operator, case.domain) and len(case.feeds) > 1 and not case.expanded:
            yield _frozen(case)


def _case(test: Any, nodes: Mapping[str, onnx.NodeProto]) -> Case:
    base = test.name.split("_expanded")[0]
    node = nodes.get(base, test.model.graph.node[0])
    inputs, expected = test.data_sets[0]
    return Case(
        name=test.name,
        operator=node.op_type,
        domain=node.domain,
        opset=next((o.version for o in test.model.opset_import if o.domain == node.domain), 0),
        expanded=base != test.name,
        model=test.model,
        feeds={i.name: _array(v) for i, v in zip(test.model.graph.input, inputs, strict=False)},
        expected=tuple(expected),
        rtol=test.rtol,
        atol=test.atol,
    )


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic | int | float) else value


def _frozen(case: Case) -> Case:
    """The case with all inputs but the first made constant."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    first, *rest = list(model.graph.input)
    for info in rest:
        if info.name in case.feeds:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(case.feeds[info.name]), info.name))
    del model.graph.input[1:]
    feeds = {first.name: case.feeds[first.name]}
    return replace(case, name=f"{case.name}:frozen", model=model, feeds=feeds)


def survey() -> list[Outcome]:
    """The outcome of every case."""
    return [outcome(case) for case in cases()]


def outcome(case: Case) -> Outcome:
    """Compile and run one case, and judge the answer."""
    try:
        quantized, graph = compile_case(case)
        results = Reference(graph).run(case.feeds)
        place, note = _judge(case, quantized, graph, results)
    except AxforgeError as e:
        place, note = "refused", str(e).replace("\n", " ")
    except Exception as e:  # whatever else escapes is a defect of the compiler: it is counted, and the run goes on
        place, note = "wrong", f"{type(e).__name__}: {e}".replace("\n", " ")
    return Outcome(case.name, case.operator, case.domain, case.opset, case.expanded, place, note)


def compile_case(case: Case) -> tuple[onnx.ModelProto, ir.Graph]:
    """(quantized.onnx, fused graph of the `.axmodel`), calibrated on the case's own inputs; head and tail stay on the AIPU."""
    check_versions(case.model, case.name)
    checked, _ = checked_model(clean(case.model, {}, case.name), CheckConfig(cut_head=False, cut_tail=False), case.name)
    if any(not isinstance(v, np.ndarray | np.generic) for v in case.feeds.values()):
        raise AxforgeError("an input is a sequence or an optional, and a compiled model takes tensors", where=case.name)
    statistics = calibrate.collect(checked, CalibrateConfig(), [case.feeds], silent)
    quantized, _ = quantize.quantize(checked, statistics, QuantizeConfig())
    return quantized, _packed(optimize.optimize(quantized))


def _packed(graph: ir.Graph) -> ir.Graph:
    """The graph as it comes back from a finished `.axmodel` for one core."""
    with tempfile.TemporaryDirectory(prefix="axforge-") as name:
        folder = Path(name)
        graphfile.save(graph, folder / "graph.axgraph")
        files = {file: folder / file for name in ("tile", "pack") for file in BY_NAME[name].inputs}
        tile.run(files, TileConfig(), folder, silent)
        pack.run(files, PackConfig(), folder, silent)
        return pack.read_graph(folder / "model.axmodel")


def _judge(case: Case, quantized: onnx.ModelProto, graph: ir.Graph, results: Mapping[str, Array]) -> tuple[str, str]:
    islands = sum(isinstance(op, ir.Island) for op in graph.ops)
    place = "cpu" if islands == len(graph.ops) and not _codes(graph) else "mixed" if islands else "aipu"
    if place == "cpu":
        wrong = _wrong_float(case, list(results.values()))
    else:
        wrong = _wrong_codes(case, quantized, graph, results)
    return ("wrong", f"{place}: {wrong}") if wrong else (place, "")


def _codes(graph: ir.Graph) -> bool:
    return any(tensor.quant for tensor in graph.tensors.values())


def _wrong_float(case: Case, results: list[Array]) -> str:
    differs = _onnxruntime_differs(case)
    expected = _evaluate(case.model, case.feeds) if differs else [_array(want) for want in case.expected]
    for got, want in zip(results, map(np.asarray, expected), strict=True):
        if _random(case):
            continue
        if got.shape != want.shape:
            return f"shape {got.shape} instead of {want.shape}"
        wrong = _difference(got, want, case)
        if wrong:
            return wrong
    return ""


def _onnxruntime_differs(case: Case) -> bool:
    return not case.expanded and any(case.name.startswith(name) for name in ONNXRUNTIME_DIFFERS)


def _difference(got: Array, want: Array, case: Case) -> str:
    if want.dtype.kind != "f":
        return "" if np.array_equal(got, want) else "differs"
    if np.allclose(got, want, rtol=case.rtol, atol=case.atol, equal_nan=True):
        return ""
    return f"differs by {np.nanmax(np.abs(got.astype(np.float64) - want)):.3g}"


def _random(case: Case) -> bool:
    return case.operator in RANDOM or (case.operator == "Dropout" and "training" in case.name)


def _evaluate(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Any]:
    """The model's answer in float32, as plainly as possible."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        return list(ort.InferenceSession(model.SerializeToString(), options).run(None, dict(feeds)))
    except Exception:  # onnxruntime's exceptions have no common base; it lacks the newest operators
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            answer: Any = ReferenceEvaluator(model).run(None, dict(feeds))
        return list(answer)


def _wrong_codes(case: Case, quantized: onnx.ModelProto, graph: ir.Graph, results: Mapping[str, Array]) -> str:
    oracle = _evaluate(quantized, case.feeds)
    coarse = any(case.name.startswith(name) for name in COARSE)
    expected = _evaluate(case.model, case.feeds) if _onnxruntime_differs(case) else case.expected
    for (name, got), rounded, want in zip(results.items(), oracle, expected, strict=True):
        want = np.asarray(_array(want))
        if got.shape != want.shape:
            return f"shape {got.shape} instead of {want.shape}"
        if want.dtype.kind != "f" or want.size == 0:
            if not np.array_equal(got, want):
                return "differs"
            continue
        finite = want[np.isfinite(want)]
        span = float(np.ptp(finite) or abs(finite[0])) if finite.size else 1.0
        span = span or 1.0
        quant = graph.tensors[name].quant
        quantum = quant.scale if quant else span / 255
        off = _gap(got, np.asarray(rounded)).max() / quantum
        if off > QUANTA * 1.001:
            return f"{off:.1f} quanta from the quantized model's answer"
        error = _rms(got, want)
        if error > max(SPAN_SHARE * span, quantum) and not coarse:
            return f"error {error / span:.1%} of the span"
    return ""


def _gap(got: Array, want: Array) -> Array:
    """|got - want|: 0 where both are the same infinity or both NaN, infinite where only one is not finite."""
    got, want = got.astype(np.float64), np.asarray(want, np.float64)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.nan_to_num(np.abs(got - want), nan=np.inf))


def _rms(got: Array, want: Array) -> float:
    return float(np.sqrt(np.mean(_gap(got, want) ** 2)))
