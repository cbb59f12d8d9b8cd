"""Ranges by their effect on the outputs: never worse than the best single scheme on held-out samples, and better where schemes differ."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from onnx_models import image_samples, model, save, small_net

from axforge.axcompiler.calibrate import collect
from axforge.axcompiler.check import run as check
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.quantize import quantize, schemes
from axforge.axcompiler.quantize.algorithms.clipping import JUDGED
from axforge.axcompiler.quantize.effect.outputs import OutputError, loss
from axforge.axcompiler.quantize.effect.search import Ranges, Search
from axforge.axcompiler.quantize.report import QuantizationReport, UnitReport
from axforge.axcompiler.stages import CalibrateConfig, CheckConfig, QuantizeConfig, silent
from axforge.axcompiler.statistics.artefacts import Statistics
from axforge.axcompiler.statistics.base import Range
from axforge.axcompiler.statistics.examples import LEAST, MAX_BYTES, MOST, Examples, packed, unpacked
from axforge.axcompiler.statistics.histogram import Histogram

Array = NDArray[np.float32]
Samples = list[dict[str, Array]]
node = helper.make_node


def planted(seed: int) -> tuple[onnx.ModelProto, Samples]:
    """A network with a tensor whose rare large values are the answer, one whose rare large values mean nothing, and random layers.

    Output `most` is the maximum over the pixels of one branch, output `share` the sigmoid of the other, which saturates.
    """
    rng = np.random.default_rng(seed)
    constants: dict[str, Array] = {}

    def conv(source: str, result: str, outputs: int, inputs: int, *, positive: bool = False) -> onnx.NodeProto:
        weight = rng.normal(size=(outputs, inputs, 1, 1)).astype(np.float32)
        constants[f"w_{result}"] = np.abs(weight) if positive else weight
        return node("Conv", [source, f"w_{result}"], [result], f"conv_{result}")

    nodes = [conv("x", "a", 6, 4, positive=True), conv("z", "b", 6, 4)]
    a, b = "a", "b"
    for k, kind in enumerate(rng.choice(["Relu", "Tanh", "Concat", "Add"], size=int(rng.integers(1, 4)))):
        if kind == "Concat":
            nodes += [node("Concat", [b, "b"], [f"j{k}"], f"concat{k}", axis=1), conv(f"j{k}", f"b{k}", 6, 12)]
        elif kind == "Add":
            nodes += [conv(b, f"r{k}", 6, 6), node("Add", [b, f"r{k}"], [f"b{k}"], f"add{k}")]
        else:
            nodes += [node(kind, [b], [f"t{k}"], f"act{k}"), conv(f"t{k}", f"b{k}", 6, 6)]
        b = f"b{k}"
    nodes += [
        node("Relu", [a], ["ra"], "relu"), conv("ra", "c", 3, 6, positive=True),
        node("GlobalMaxPool", ["c"], ["most"], "maximum"),
        conv(b, "d", 3, 6), node("Sigmoid", ["d"], ["share"], "sigmoid"),
    ]  # fmt: skip
    shape = [1, 4, 12, 12]
    proto = model(nodes, {"x": shape, "z": shape}, ["most", "share"], constants)
    samples = []
    for _ in range(40):
        x, z = rng.random((2, *shape), dtype=np.float32)
        i, j, k, m = rng.integers(0, 12, size=4)
        x[0, :, i, j] *= rng.uniform(5, 15)
        z[0, :, k, m] *= rng.uniform(5, 15)
        samples.append({"x": x, "z": z})
    return proto, samples


def measured(proto: onnx.ModelProto, samples: Samples, folder: Path) -> tuple[onnx.ModelProto, Statistics]:
    check({"model.onnx": save(proto, folder)}, CheckConfig(cut_tail=False), folder, silent)
    checked = onnx.load(folder / "checked.onnx")
    return checked, collect(checked, CalibrateConfig(), samples, silent)


def outputs(proto: onnx.ModelProto, samples: Samples) -> list[dict[str, Array]]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return [dict(zip(names, session.run(names, sample), strict=True)) for sample in samples]


def losses(
    checked: onnx.ModelProto, statistics: Statistics, samples: Samples, effort: str
) -> tuple[float, dict[str, float], QuantizationReport]:
    """The loss on `samples` of what was found, and of each scheme alone, both as onnxruntime computes the QDQ model."""
    error = OutputError(outputs(checked, samples))

    def of(config: QuantizeConfig) -> tuple[float, QuantizationReport]:
        qdq, report = quantize(checked, statistics, config)
        return loss(np.mean([error.of(i, found) for i, found in enumerate(outputs(qdq, samples))], axis=0)), report

    singles = {name: of(QuantizeConfig(name))[0] for name in JUDGED}
    found, report = of(QuantizeConfig(effort=effort))
    return found, singles, report


@pytest.mark.parametrize("effort", ["normal", "best"])
@pytest.mark.parametrize("seed", range(5))
def test_never_worse_than_the_best_single_scheme_on_held_out_samples(tmp_path: Path, seed: int, effort: str) -> None:
    proto, samples = planted(seed)
    checked, statistics = measured(proto, samples, tmp_path)
    held_out = statistics.examples[::2][: {"normal": 4, "best": 8}[effort]]
    found, singles, report = losses(checked, statistics, held_out, effort)
    assert report.loss <= min(report.losses.values())
    # biases are rounded at the scales of the ranges, which the search leaves out of account
    assert found <= min(singles.values()) * 1.03 + 1e-4


def test_what_is_found_holds_on_samples_that_decided_nothing(tmp_path: Path) -> None:
    gains = []
    for seed in range(4):
        proto, samples = planted(seed)
        checked, statistics = measured(proto, samples, tmp_path)
        found, singles, _ = losses(checked, statistics, samples, "best")
        gains.append(found / min(singles.values()))
    assert min(gains) < 0.8
    assert np.mean(gains) < 1
    assert max(gains) < 1.15  # which scheme is the best for all differs a little from sample to sample


def test_the_same_samples_give_the_same_bytes_and_a_report(tmp_path: Path) -> None:
    checked, statistics = measured(*planted(3), tmp_path)
    first, again = (quantize(checked, statistics, QuantizeConfig()) for _ in range(2))
    assert first[0].SerializeToString(deterministic=True) == again[0].SerializeToString(deterministic=True)
    assert first[1].to_json() == again[1].to_json()
    assert {*first[1].losses} == {*JUDGED}
    assert {unit.output for unit in first[1].outputs} == {"most", "share"}


def test_effort_bounds_the_number_of_runs(tmp_path: Path) -> None:
    checked, statistics = measured(*planted(1), tmp_path)
    runs = {effort: quantize(checked, statistics, QuantizeConfig(effort=effort))[1].runs for effort in ("fast", "normal", "best")}
    assert runs["fast"] == 0
    assert 24 <= runs["normal"] <= 24 + 6
    assert runs["normal"] < runs["best"] <= 20 * 40 + 12
    assert quantize(checked, statistics, QuantizeConfig(effort="fast"))[0] == quantize(checked, statistics, QuantizeConfig("mse"))[0]


def test_without_kept_samples_one_scheme_is_taken(tmp_path: Path) -> None:
    checked, statistics = measured(small_net(), image_samples(4), tmp_path)
    statistics.examples = []
    assert quantize(checked, statistics, QuantizeConfig())[1].scheme == "mse"


def test_where_onnxruntime_has_no_quantizer_of_the_opset_one_scheme_is_taken_and_the_build_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, statistics = measured(small_net(), image_samples(4), tmp_path)
    real = ort.InferenceSession

    def without_quantizer(model: bytes, *more: object, **named: object) -> object:
        if any(node.op_type == "QuantizeLinear" for node in onnx.load_from_string(model).graph.node):
            raise RuntimeError("no implementation for QuantizeLinear(28)")
        return real(model, *more, **named)

    monkeypatch.setattr(ort, "InferenceSession", without_quantizer)
    made, report = quantize(checked, statistics, QuantizeConfig())
    assert made == quantize(checked, statistics, QuantizeConfig("mse"))[0]
    assert report.scheme == "mse"
    assert "QuantizeLinear(28)" in report.warnings[0]
    assert "mse alone" in report.warnings[0]


def test_an_unknown_effort_or_scheme_is_refused_and_the_vendors_names_are_known(tmp_path: Path) -> None:
    checked, statistics = measured(small_net(), image_samples(4), tmp_path)
    with pytest.raises(CompileError, match="no effort 'bets'"):
        quantize(checked, statistics, QuantizeConfig(effort="bets"))
    with pytest.raises(CompileError, match="no range scheme 'effekt'"):
        quantize(checked, statistics, QuantizeConfig("effekt"))
    with pytest.raises(CompileError, match="has no option 'power'"):
        quantize(checked, statistics, QuantizeConfig(algorithms={"clipping": {"options": {"power": 2.0}}}))
    for theirs, ours in (("per_tensor_min_max", "minmax"), ("per_tensor_histogram", "mse"), ("hybrid_per_tensor_per_channel", "effect")):
        assert quantize(checked, statistics, QuantizeConfig(theirs))[0] == quantize(checked, statistics, QuantizeConfig(ours))[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(0, 3), st.integers(1, 4))
def test_the_search_never_ends_worse_than_it_began(seed: int, budget: int, tried: int, held_out: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = [f"t{i}" for i in range(int(rng.integers(1, 12)))]
    candidates = {s: {t: (-float(rng.uniform(0, 2)), float(rng.uniform(0.1, 2))) for t in tensors} for s in ("a", "b", "c")}
    best = {t: float(rng.uniform(0.1, 2)) for t in tensors}
    noise = rng.normal(0, 0.05, size=(tried + held_out, 2))

    def evaluate(ranges: Ranges, i: int) -> NDArray[np.float64]:
        off = sum((ranges[t][1] - best[t]) ** 2 for t in tensors)
        return np.abs(np.array([off, 0.1 * off]) + noise[i] * sum(ranges[t][0] for t in tensors)) + 0.01

    def held(ranges: Ranges) -> float:
        return loss(np.mean([evaluate(ranges, i) for i in range(tried, tried + held_out)], axis=0))

    found = Search(candidates, evaluate, range(tried), range(tried, tried + held_out)).run(budget)
    singles = {name: held(ranges) for name, ranges in candidates.items()}
    assert found.singles == pytest.approx(singles)
    assert held(found.ranges) == pytest.approx(found.loss)
    assert found.loss <= min(singles.values()) + 1e-12
    assert all(found.ranges[t] in [ranges[t] for ranges in candidates.values()] for t in tensors)


def test_boxes_and_scores_in_one_output_are_judged_apart() -> None:
    rng = np.random.default_rng(0)
    boxes, scores = rng.normal(300, 50, size=(8, 100, 4)), rng.random((8, 100, 6)) ** 8
    reference = [{"y": np.concatenate(parts, axis=1)[None].astype(np.float32)} for parts in zip(boxes, scores, strict=True)]
    error = OutputError(reference)
    assert sorted(unit.indices for unit in error.units) == [(0, 1, 2, 3), (4, 5, 6, 7, 8, 9)]
    worse = {"y": reference[0]["y"].copy()}
    worse["y"][..., 4:] *= 0.5  # changes the sum of squares of the whole output by nothing that can be seen
    found = error.of(0, worse)
    assert sorted(found > 0.1) == [False, True]
    assert error.of(0, reference[0]).tolist() == [0, 0]


def test_one_number_means_the_same_in_any_unit_and_for_broken_outputs() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(5, 1, 3, 7)).astype(np.float32)
    off = values + 0.1 * rng.normal(size=values.shape).astype(np.float32)
    small, large = (OutputError([{"y": factor * v} for v in values]) for factor in (np.float32(1e-9), np.float32(1e9)))
    assert small.of(2, {"y": np.float32(1e-9) * off[2]}) == pytest.approx(large.of(2, {"y": np.float32(1e9) * off[2]}), rel=1e-3)
    for broken in (np.full_like(values[0], np.nan), np.full_like(values[0], np.inf), values[0][..., :2]):
        assert loss(small.of(0, {"y": broken})) > 0.5
    constant = OutputError([{"y": np.ones((1, 4), np.float32)}] * 5)
    assert loss(constant.of(0, {"y": np.ones((1, 4), np.float32)})) == 0
    assert 0 < loss(constant.of(0, {"y": np.full((1, 4), 1.001, np.float32)})) < 1


def test_examples_are_spread_over_all_samples_and_come_back_as_they_were() -> None:
    rng = np.random.default_rng(0)
    kept = Examples()
    for i in range(100):
        kept.add(i, {"x": np.full((2, 2), i, np.float32), "ids": np.asarray([i])})
    numbers = [int(example["ids"][0]) for example in kept.result()]
    assert len(numbers) <= MOST
    assert numbers == list(range(0, 100, numbers[1]))
    assert numbers[-1] > 80
    big = Examples()
    for i in range(20):
        big.add(i, {"x": np.zeros(MAX_BYTES // 4 // LEAST + 1, np.float32)})
    assert 1 < len(big.result()) <= LEAST
    pixels = (rng.integers(0, 256, (1, 3, 9, 9)) / 255).astype(np.float32)
    odd = np.asarray([0.0, -0.0, np.nan, np.inf], np.float32)
    for example in ({"a/b": pixels, "c": odd}, {"m": np.asarray(True)}, {"n": rng.normal(size=(40, 40)).astype(np.float32)}):
        (back,) = unpacked(packed([example]))
        assert {name: value.tobytes() for name, value in back.items()} == {name: value.tobytes() for name, value in example.items()}
        assert all(back[name].shape == value.shape and back[name].dtype == value.dtype for name, value in example.items())
    assert unpacked(packed([])) == []


def range_of(values: Array) -> Range:
    histogram = Histogram.empty(2048)
    histogram.add(values, float(values.min()), float(values.max()))
    return Range(float(values.min()), float(values.max()), histogram)


def test_entropy_keeps_a_plain_range_and_cuts_off_a_lonely_tail() -> None:
    rng = np.random.default_rng(0)
    scheme = schemes.create("entropy", {}, "")
    even = scheme.choose(range_of(rng.uniform(-1, 1, 100_000).astype(np.float32)))
    assert even[0] < -0.95
    assert even[1] > 0.95
    tailed = rng.normal(size=100_000).astype(np.float32)
    tailed[0] = 60
    lo, hi = scheme.choose(range_of(tailed))
    assert -5 < lo < -2
    assert 2 < hi < 15
    assert scheme.choose(range_of(np.zeros(9, np.float32))) == (0.0, 0.0)
    assert scheme.choose(range_of(np.abs(tailed)))[0] == 0


def test_a_large_loss_is_reported_with_what_to_try() -> None:
    report = QuantizationReport(outputs=[UnitReport("boxes", 2, 4, 30.0), UnitReport("scores", -1, 0, 3.0)])
    (warning,) = report.warnings
    assert "scores" in warning
    assert "3.0 dB" in warning
    assert "effort" in warning
    chosen = QuantizationReport("mse", 5, {"a": "minmax", "b": "entropy", "c": "minmax"}, outputs=report.outputs)
    assert chosen.summary.startswith("int8 ranges by mse for 2 tensors, entropy for 1, minmax for 2; signal to noise")
    assert "3.0 dB" in chosen.summary
    assert QuantizationReport().summary == ""
