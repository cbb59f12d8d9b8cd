"""Takes the node tests of the `onnx` package through check, calibrate, quantize, optimize and the reference engine.

Each test is a small model with inputs and expected outputs. Many give as inputs what real models have as constants (weights,
shapes, axes); those run a second time with all inputs but the first made constant ("frozen").

An answer is right if
- all of it came from islands: it is within the test's own tolerance of the expected one;
- it came from the AIPU: it is within two quanta of what ONNX's own evaluator makes of the quantized model (rounding operands and
  results to 8 bits is all that int8 may change; one quantum for a tie that falls to the other side, one more where a tie of an
  operand moved it), and its root mean square error against the expected one is at most 6 % of that one's span.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from axcompiler import calibrate, ir, optimize, quantize
from axcompiler.check.clean import clean
from axcompiler.check.load import check_versions
from axcompiler.check.stage import checked_model
from axcompiler.errors import AxforgeError
from axcompiler.operators.base import find
from axcompiler.reference import Reference
from axcompiler.stages import CalibrateConfig, CheckConfig, QuantizeConfig, silent

Array = NDArray[Any]
QUANTA = 2
SPAN_SHARE = 0.06


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

        tests = [t for t in collect_testcases("") if t.model is not None]
    tested = {t.name: t.model.graph.node[0] for t in tests}
    for test in tests:
        base = test.name.split("_expanded")[0]
        node = tested.get(base, test.model.graph.node[0])
        opset = next((o.version for o in test.model.opset_import if o.domain == node.domain), 0)
        inputs, expected = test.data_sets[0]
        feeds = {i.name: _array(v) for i, v in zip(test.model.graph.input, inputs, strict=False)}
        case = Case(
            test.name, node.op_type, node.domain, opset, base != test.name, test.model, feeds, tuple(expected), test.rtol, test.atol
        )
        yield case
        if find(node.op_type, node.domain) and len(feeds) > 1 and not case.expanded:
            yield _frozen(case)


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


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
    return Case(
        f"{case.name}:frozen", case.operator, case.domain, case.opset, False, model, feeds, case.expected, case.rtol, case.atol
    )


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
    return Outcome(case.name, case.operator, case.domain, case.opset, case.expanded, place, note)


def compile_case(case: Case) -> tuple[onnx.ModelProto, ir.Graph]:
    """(quantized.onnx, fused graph), calibrated on the case's own inputs; head and tail stay on the AIPU."""
    check_versions(case.model, case.name)
    checked, _ = checked_model(clean(case.model, {}, case.name), CheckConfig(cut_head=False, cut_tail=False), case.name)
    if any(not isinstance(v, np.ndarray | np.generic) for v in case.feeds.values()):
        raise AxforgeError("an input is a sequence or an optional, and a compiled model takes tensors", where=case.name)
    statistics = calibrate.collect(checked, CalibrateConfig(), [case.feeds], silent)
    quantized = quantize.quantize(checked, statistics, QuantizeConfig())
    return quantized, optimize.optimize(quantized)


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
    for got, want in zip(results, case.expected, strict=True):
        want = np.asarray(_array(want))
        if got.shape != want.shape:
            return f"shape {got.shape} instead of {want.shape}"
        if want.dtype.kind == "f" and not np.allclose(got, want, rtol=case.rtol, atol=case.atol, equal_nan=True):
            return f"differs by {np.nanmax(np.abs(got.astype(np.float64) - want)):.3g}"
        if want.dtype.kind != "f" and not np.array_equal(got, want):
            return "differs"
    return ""


def _wrong_codes(case: Case, quantized: onnx.ModelProto, graph: ir.Graph, results: Mapping[str, Array]) -> str:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        oracle: Any = ReferenceEvaluator(quantized).run(None, dict(case.feeds))
    for (name, got), rounded, want in zip(results.items(), oracle, case.expected, strict=True):
        want = np.asarray(_array(want))
        if got.shape != want.shape:
            return f"shape {got.shape} instead of {want.shape}"
        if want.dtype.kind != "f" or want.size == 0:
            if not np.array_equal(got, want):
                return "differs"
            continue
        span = float(want.max() - want.min()) or abs(float(want.max())) or 1.0
        quant = graph.tensors[name].quant
        quantum = quant.scale if quant else span / 255
        off = np.abs(got.astype(np.float64) - rounded).max() / quantum
        if off > QUANTA * 1.001:
            return f"{off:.1f} quanta from the quantized model's answer"
        error = float(np.sqrt(np.mean((got.astype(np.float64) - want) ** 2)))
        if error > SPAN_SHARE * span and error > quantum:
            return f"error {error / span:.1%} of the span"
    return ""
