"""quantize: a QDQ model that onnxruntime runs, near the float one; ranges that hold zero; integers that cannot overflow."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_models import image_samples, model, run, save, small_net

from axforge.axcompiler import graphfile, ir, optimize
from axforge.axcompiler.calibrate import run as calibrate
from axforge.axcompiler.check import run as check
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.operators import find
from axforge.axcompiler.quantize import run as quantize
from axforge.axcompiler.quantize import schemes, weights
from axforge.axcompiler.quantize.ranges import MIN_SCALE, quant_for, snapped
from axforge.axcompiler.reference import Reference
from axforge.axcompiler.stages import CalibrateConfig, CheckConfig, OptimizeConfig, QuantizeConfig, silent
from axforge.axcompiler.statistics.base import Range
from axforge.axcompiler.statistics.histogram import Histogram

node = helper.make_node


def compiled(
    proto: onnx.ModelProto, folder: Path, samples: list[dict[str, np.ndarray]], config: QuantizeConfig | None = None, **check_options: bool
) -> tuple[onnx.ModelProto, Graph]:
    """The QDQ model and the fused graph."""
    files = {name: folder / name for name in ("checked.onnx", "ranges.json", "histograms.npz", "samples.npz", "quantized.onnx")}
    check({"model.onnx": save(proto, folder)}, CheckConfig(**check_options), folder, silent)
    calibrate(files, CalibrateConfig(), folder, silent, samples=samples)
    quantize(files, config or QuantizeConfig(), folder, silent)
    optimize.run(files, OptimizeConfig(), folder, silent)
    return onnx.load(files["quantized.onnx"]), graphfile.load(folder / "graph.axgraph")


def initializers(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}


def activation_scales(proto: onnx.ModelProto) -> dict[str, tuple[float, int]]:
    """(scale, zero point) of each quantized activation."""
    known = initializers(proto)
    return {n.input[0]: (float(known[n.input[1]]), int(known[n.input[2]])) for n in proto.graph.node if n.op_type == "QuantizeLinear"}


@pytest.mark.parametrize("scheme", ["minmax", "percentile", "mse"])
def test_near_the_float_model_in_onnxruntime_and_reference(tmp_path: Path, scheme: str) -> None:
    proto, samples = small_net(), image_samples(20)
    qdq, graph = compiled(proto, tmp_path, samples, QuantizeConfig(scheme))
    onnx.checker.check_model(qdq, full_check=True)
    reference = Reference(graph)
    for sample in image_samples(3):
        real = run(proto, sample)["y"]
        assert np.abs(run(qdq, sample)["y"] - real).max() < 0.02
        assert np.abs(reference.run(sample)["y"] - real).max() < 0.02


def test_form_of_the_qdq_model(tmp_path: Path) -> None:
    qdq, _ = compiled(small_net(), tmp_path, image_samples(8))
    known, made = initializers(qdq), {o: n for n in qdq.graph.node for o in n.output}
    assert qdq.opset_import[0].version >= 13
    for n in qdq.graph.node:
        if n.op_type == "Conv":
            _, w, b = (made[i] for i in n.input)
            codes, scale = known[w.input[0]], known[w.input[1]]
            assert codes.dtype == np.int8
            assert abs(int(codes.min())) <= 127
            assert scale.shape == (codes.shape[0],)
            assert known[b.input[0]].dtype == np.int32
            x_scale = known[made[n.input[0]].input[1]]
            np.testing.assert_array_equal(known[b.input[1]], (x_scale * scale).astype(np.float32))
    readers = {i: n.op_type for n in qdq.graph.node for i in n.input}
    assert made["r1"].op_type == "Relu"
    assert made[made["r1"].input[0]].op_type == "Conv", "no Q before the Relu of a layer"
    assert readers["c2"] == "QuantizeLinear", "the operand of a table is quantized"
    assert readers["s2"] == "Mul", "nothing is quantized inside a region"
    assert {i.name for i in qdq.graph.input} == {"x"}
    assert {o.name for o in qdq.graph.output} == {"y"}


def test_copies_and_joins_share_a_scale(tmp_path: Path) -> None:
    qdq, graph = compiled(small_net(), tmp_path, image_samples(8))
    scales = activation_scales(qdq)
    assert scales["a2"] == scales["p2"] == scales["cat"]
    concat = next(op for op in graph.ops if type(op).__name__ == "Concat")
    assert concat.tables == (None, None)


def test_a_join_of_unlike_ranges_keeps_the_precision_others_need(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    constants = {
        "w1": rng.normal(size=(4, 3, 1, 1)).astype(np.float32),
        "w2": (rng.normal(size=(4, 3, 1, 1)) * 50).astype(np.float32),
        "w3": rng.normal(size=(2, 4, 1, 1)).astype(np.float32),
        "w4": rng.normal(size=(2, 8, 1, 1)).astype(np.float32),
    }
    nodes = [
        node("Conv", ["x", "w1"], ["small"], "small"),
        node("Conv", ["x", "w2"], ["large"], "large"),
        node("Conv", ["small", "w3"], ["y1"], "head1"),
        node("Concat", ["small", "large"], ["both"], "join", axis=1),
        node("Conv", ["both", "w4"], ["y2"], "head2"),
    ]
    qdq, _ = compiled(model(nodes, {"x": [1, 3, 8, 8]}, ["y1", "y2"], constants), tmp_path, image_samples(4, (1, 3, 8, 8)))
    scales = activation_scales(qdq)
    assert scales["large"] == scales["both"]
    assert scales["small"][0] < scales["both"][0] / 10


@pytest.mark.parametrize(("gain", "scale", "zero"), [(1.0, 1 / 255, -128), (255.0, 1.0, -128)])
def test_image_inputs_have_the_scale_of_images(tmp_path: Path, gain: float, scale: float, zero: int) -> None:
    proto = model([node("Conv", ["x", "w"], ["y"])], {"x": [1, 3, 8, 8]}, ["y"], {"w": np.ones((2, 3, 1, 1), np.float32)})
    samples = [{"x": (s["x"] * gain * 0.99).astype(np.float32)} for s in image_samples(20, (1, 3, 8, 8))]
    _, graph = compiled(proto, tmp_path, samples)
    quant = graph.tensors["x"].quant
    assert quant is not None
    assert quant.scale == pytest.approx(scale, rel=1e-6)
    assert quant.zero_point == zero


def test_ranges_that_are_no_image_stay_exact() -> None:
    assert snapped((0.0, 0.97)) == (0.0, 1.0)
    assert snapped((-0.97, 0.99)) == (-1.0, 1.0)
    for bounds in ((0.0, 0.5), (-2.1, 2.6), (0.0, 300.0)):
        assert snapped(bounds) == bounds


def test_excluded_nodes_stay_float_islands(tmp_path: Path) -> None:
    proto, samples = small_net(), image_samples(8)
    for name in ("conv1", "relu", "sigmoid", "pool", "concat", "fc"):
        _, graph = compiled(proto, tmp_path, samples, QuantizeConfig(exclude=(name,)))
        origins = {origin for op in graph.ops if type(op).__name__ != "Island" for origin in op.origin}
        assert name not in origins
        assert np.abs(Reference(graph).run(samples[0])["y"] - run(proto, samples[0])["y"]).max() < 0.02
    _, graph = compiled(proto, tmp_path, samples, QuantizeConfig(exclude=("conv1",)))
    assert not {"conv1", "relu"} & {origin for op in graph.ops if type(op).__name__ == "Conv" for origin in op.origin}


def test_bad_configurations_are_errors(tmp_path: Path) -> None:
    for config, words in (
        (QuantizeConfig("best"), "no range scheme 'best'"),
        (QuantizeConfig("percentile", 0.5), "percentile is 0.5"),
        (QuantizeConfig(exclude=("nobody",)), "exclude names nobody"),
    ):
        with pytest.raises(CompileError, match=words):
            compiled(small_net(), tmp_path, image_samples(2), config)


def test_model_without_layers_is_int8(tmp_path: Path) -> None:
    proto = model([node("Add", ["a", "b"], ["s"]), node("Tanh", ["s"], ["y"])], {"a": [2, 3], "b": [1, 3]}, ["y"])
    rng = np.random.default_rng(0)
    samples = [{"a": rng.normal(size=(2, 3)).astype(np.float32), "b": rng.normal(size=(1, 3)).astype(np.float32)} for _ in range(9)]
    _, graph = compiled(proto, tmp_path, samples)
    (add,) = graph.ops
    assert isinstance(add, ir.Add)
    assert add.epilogue.table is not None, "the Tanh is a table after the sum"
    assert np.abs(Reference(graph).run(samples[0])["y"] - run(proto, samples[0])["y"]).max() < 0.05


def test_quantized_model_passes_through(tmp_path: Path) -> None:
    constants = {"s": np.asarray(0.1, np.float32), "z": np.asarray(3, np.int8)}
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    proto = model(nodes, {"x": [1, 4]}, ["y"], constants)
    qdq, _ = compiled(proto, tmp_path, [])
    assert [n.op_type for n in qdq.graph.node] == ["QuantizeLinear", "DequantizeLinear"]


def test_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    compiled(small_net(), tmp_path, image_samples(3))
    code = (
        "import sys; from pathlib import Path; from axforge.axcompiler import quantize, stages; p = Path(sys.argv[1]); o = p / sys.argv[2];"
        "o.mkdir(); quantize.run({n: p / n for n in stages.BY_NAME['quantize'].inputs}, stages.QuantizeConfig(), o, stages.silent)"
    )
    for seed in ("1", "2"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path), seed], check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    assert (tmp_path / "1" / "quantized.onnx").read_bytes() == (tmp_path / "2" / "quantized.onnx").read_bytes()


def test_dead_and_tiny_channels_and_large_biases(tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    w[0], w[1], w[2] = 0, w[1] * 1e-30, w[2] * 1e-7
    constants = {"w": w, "b": np.asarray([5, 0, 90, -1], np.float32)}
    proto = model([node("Conv", ["x", "w", "b"], ["y"])], {"x": [1, 3, 8, 8]}, ["y"], constants)
    samples = image_samples(4, (1, 3, 8, 8))
    qdq, graph = compiled(proto, tmp_path, samples)
    assert all(np.isfinite(v).all() and (v > 1e-35).all() for n, v in initializers(qdq).items() if n.endswith("_scale"))
    real, got = run(proto, samples[0])["y"], Reference(graph).run(samples[0])["y"]
    assert np.abs(real - got).max() <= (real.max() - real.min()) / 255


# ---------------------------------------------------------------- arithmetic


@given(st.floats(-1e6, 1e6, width=32), st.floats(0, 1e6, width=32))
def test_every_range_holds_zero_exactly(lo: float, width: float) -> None:
    q = quant_for((lo, lo + width))
    assert q.scale >= MIN_SCALE
    assert np.float32(q.scale) == q.scale
    assert -128 <= q.zero_point <= 127
    reach = ((-128 - q.zero_point) * q.scale, (127 - q.zero_point) * q.scale)
    assert reach[0] <= min(lo, 0) + q.scale
    assert reach[1] >= max(lo + width, 0) - q.scale


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8),
    st.floats(-1e4, 1e4, width=32),
    st.floats(2.0**-20, 2.0**20, width=32),
)
def test_bias_never_overflows(row: list[float], bias: float, x_scale: float) -> None:
    weight = np.asarray([row], np.float32)
    b = np.asarray([bias], np.float32)
    scale = weights.channel_scales(weight, 0, b, x_scale)
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    product = (np.float32(x_scale) * scale).astype(np.float32)
    code = weights.quantize_bias(b, product)
    assert abs(int(code[0])) <= 2**30 * (1 + 2**-22)  # two float32 roundings of the scale
    assert abs(float(code[0]) * float(product[0]) - bias) <= max(float(product[0]), abs(bias) * 1e-6)
    assert np.abs(weights.quantize_weight(weight, scale, 0).astype(int)).max() <= 127


def measured(values: np.ndarray) -> Range:
    h = Histogram.empty(2048)
    h.add(values.astype(np.float32), float(values.min()), float(values.max()))
    return Range(float(values.min()), float(values.max()), h)


def error(values: np.ndarray, bounds: tuple[float, float]) -> float:
    q = quant_for(bounds)
    codes = np.clip(np.rint(values / q.scale) + q.zero_point, -128, 127)
    return float(np.mean(((codes - q.zero_point) * q.scale - values) ** 2))


@pytest.mark.parametrize("tail", [1.0, 10.0, 100.0])
def test_mse_finds_the_least_error(tail: float) -> None:
    values = np.random.default_rng(0).normal(size=20000)
    values[:3] *= tail
    r = measured(values)
    best = error(values, schemes.create("mse", {}, "").choose(r))
    grid = [(a * r.lo, b * r.hi) for a in np.geomspace(1, 0.02, 30) for b in np.geomspace(1, 0.02, 30)]
    assert best <= 1.02 * min(error(values, bounds) for bounds in grid)


def test_ranges_before_a_table_forget_what_the_table_forgets() -> None:
    values = np.random.default_rng(0).normal(size=20000) * 3
    values[:200] = -60

    def silu(x: np.ndarray) -> np.ndarray:
        return np.asarray(x / (1 + np.exp(-x)))

    assert schemes.create("mse", {}, "").choose(measured(values))[0] < -50
    assert schemes.create("mse", {}, "").choose(measured(values), silu)[0] > -10


def test_percentile_cuts_the_rare() -> None:
    values = np.concatenate([np.linspace(-1, 1, 9998), [-50.0, 80.0]])
    lo, hi = schemes.create("percentile", {"percentile": 99.9}, "").choose(measured(values))
    assert -1.2 < lo <= -0.9
    assert 0.9 <= hi < 1.2


@pytest.mark.parametrize("groups", [1, 2])
def test_bias_correction_is_the_shift_of_the_mean(groups: int) -> None:
    from axforge.axcompiler.onnx_graph.views import NodeView

    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 4 // groups, 3, 3)).astype(np.float32)
    rounded = weight.astype(np.float64) + rng.normal(size=weight.shape) * 0.01
    x = rng.normal(size=(1, 4, 9, 9)).astype(np.float32)
    x[:] = x.mean(axis=(2, 3), keepdims=True)  # constant channels: the formula is exact
    view = NodeView("Conv", "c", ("x", "w"), ("y",), {"group": groups}, 17, {}, {}, {})
    proto = model([node("Conv", ["x", "w"], ["y"], group=groups)], {"x": [1, 4, 9, 9]}, ["y"], {"w": (rounded - weight).astype(np.float32)})
    operator = find("Conv")
    assert operator is not None
    assert operator.mean_shift is not None
    got = operator.mean_shift(view, rounded - weight.astype(np.float64), x.mean(axis=(0, 2, 3)).astype(np.float64))
    np.testing.assert_allclose(got, run(proto, {"x": x})["y"].mean(axis=(0, 2, 3)), rtol=1e-3, atol=1e-5)
