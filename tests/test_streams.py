"""Residual streams: float32 where a few channels are far larger than the others, factors where products read and write them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from onnx_models import model, run, save

from axforge.axcompiler import api
from axforge.axcompiler.calibrate import collect
from axforge.axcompiler.check import run as check
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.placement.plan import make_plan
from axforge.axcompiler.placement.streams import hidden, reads, streams, writes
from axforge.axcompiler.quantize import quantize
from axforge.axcompiler.rewrites import REWRITES
from axforge.axcompiler.stages import AlgorithmOptions, CalibrateConfig, CheckConfig, QuantizeConfig, silent
from axforge.axcompiler.statistics.peaks import levels

F32 = NDArray[np.float32]
node = helper.make_node
TOKENS, WIDTH, INNER = 12, 32, 64
OFF: dict[str, AlgorithmOptions] = {"float_streams": False, "smooth_streams": False}


def block(constants: dict[str, F32], name: str, x: str, large: float, rng: np.random.Generator) -> tuple[list[onnx.NodeProto], str]:
    """x -> product -> Relu -> product -> + x -> LayerNormalization. large: what one channel between and after the products is times."""
    up, down = rng.normal(0, 0.2, (WIDTH, INNER)), rng.normal(0, 0.2, (INNER, WIDTH))
    up[:, 5] *= large
    down[5, 7] = large**0.5
    constants |= {f"{name}_up": up.astype(np.float32), f"{name}_down": down.astype(np.float32)}
    constants |= {f"{name}_b{i}": rng.normal(0, 0.1, n).astype(np.float32) for i, n in enumerate((INNER, WIDTH))}
    constants |= {f"{name}_gamma": rng.uniform(0.5, 1.5, WIDTH).astype(np.float32), f"{name}_beta": np.zeros(WIDTH, np.float32)}
    p = f"{name}_"
    nodes = [
        node("MatMul", [x, p + "up"], [p + "m"], p + "first"),
        node("Add", [p + "m", p + "b0"], [p + "a"], p + "bias0"),
        node("Relu", [p + "a"], [p + "f"], p + "relu"),
        node("MatMul", [p + "f", p + "down"], [p + "n"], p + "second"),
        node("Add", [p + "n", p + "b1"], [p + "o"], p + "bias1"),
        node("Add", [p + "o", x], [p + "s"], p + "sum"),
        node("LayerNormalization", [p + "s", p + "gamma", p + "beta"], [p + "y"], p + "norm", axis=-1),
    ]
    return nodes, p + "y"


def encoder(large: float) -> onnx.ModelProto:
    """Two feed-forward blocks between two products."""
    rng = np.random.default_rng(2)
    constants: dict[str, F32] = {name: rng.normal(0, 0.3, (WIDTH, WIDTH)).astype(np.float32) for name in ("begin", "end")}
    constants |= {"gamma": np.ones(WIDTH, np.float32), "beta": np.zeros(WIDTH, np.float32)}
    nodes = [node("MatMul", ["x", "begin"], ["e"], "embed"), node("LayerNormalization", ["e", "gamma", "beta"], ["h"], "norm", axis=-1)]
    last = "h"
    for name in ("one", "two"):
        made, last = block(constants, name, last, large, rng)
        nodes += made
    nodes.append(node("MatMul", [last, "end"], ["y"], "head"))
    return model(nodes, {"x": [1, TOKENS, WIDTH]}, ["y"], constants, opset=17)


def samples(count: int = 24, seed: int = 0) -> list[dict[str, F32]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(0, 1, (1, TOKENS, WIDTH)).astype(np.float32)} for _ in range(count)]


def checked(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    check({"model.onnx": save(proto, folder)}, CheckConfig(), folder, silent)
    return onnx.load(folder / "checked.onnx")


def noise(proto: onnx.ModelProto, algorithms: dict[str, AlgorithmOptions]) -> float:
    """Error of the compiled model relative to the float one, both squared, on inputs that are not calibrated with."""
    compiled = api.compile(proto, samples(), api.Options(quantize=QuantizeConfig(algorithms=algorithms)))
    error = power = 0.0
    for feeds in samples(6, seed=9):
        got, wanted = compiled.run(feeds)["y"], run(proto, feeds)["y"]
        error, power = error + float(((got - wanted) ** 2).sum()), power + float((wanted**2).sum())
    return error / power


def test_a_stream_is_found_with_what_reads_and_writes_it(tmp_path: Path) -> None:
    plan = make_plan(checked(encoder(1.0), tmp_path))
    (stream,) = streams(plan)
    assert len(stream.norms) == 3
    assert [len(read.layers) for read in reads(plan, stream)] == [1, 1, 1]
    between = [hidden(plan, write) for write in writes(plan, stream)]
    assert sum(found is not None for found in between) == 2


def test_large_channels_cost_the_others_no_accuracy() -> None:
    proto = encoder(60.0)
    assert noise(proto, {}) < noise(proto, OFF) / 8


def test_a_stream_of_like_channels_stays_in_int8(tmp_path: Path) -> None:
    proto = checked(encoder(1.0), tmp_path)
    measured = collect(proto, CalibrateConfig(), samples(), silent)
    assert not measured.decisions["float_streams"]
    assert not measured.decisions.get("smooth_streams")  # nothing crosses between float32 and int8
    assert make_plan(proto).quantized == make_plan(quantized_source(proto, measured.decisions)).quantized


def quantized_source(proto: onnx.ModelProto, decisions: dict[str, dict[str, list[list[int]]]]) -> onnx.ModelProto:
    """The float model after the algorithms that decided something."""
    for name in ("float_streams", "smooth_streams"):
        if decisions.get(name):
            proto, _ = REWRITES.create(name, {}, "test").rewrite(proto, decisions[name])
    return proto


def test_the_float_model_computes_the_same(tmp_path: Path) -> None:
    proto = checked(encoder(60.0), tmp_path)
    measured = collect(proto, CalibrateConfig(), samples(), silent)
    assert measured.decisions["float_streams"]
    assert measured.decisions["smooth_streams"]
    rewritten = quantized_source(proto, measured.decisions)
    onnx.checker.check_model(rewritten)
    for feeds in samples(3, seed=4):
        wanted = run(proto, feeds)["y"]
        np.testing.assert_allclose(run(rewritten, feeds)["y"], wanted, rtol=0, atol=float(np.abs(wanted).max()) * 1e-5)


def test_products_stay_in_int8(tmp_path: Path) -> None:
    proto = checked(encoder(60.0), tmp_path)
    measured = collect(proto, CalibrateConfig(), samples(), silent)
    plan = make_plan(quantized_source(proto, measured.decisions))
    named = {plan.view.nodes[i].name for k in plan.aipu for i in plan.parts[k].nodes}
    assert {"embed", "head", "one_first", "one_second", "two_first", "two_second"} <= {name.removesuffix("_gemm") for name in named}
    assert not {"norm", "one_norm", "two_norm"} & named


def test_the_decision_of_another_model_is_refused(tmp_path: Path) -> None:
    proto = checked(encoder(60.0), tmp_path)
    measured = collect(proto, CalibrateConfig(), samples(), silent)
    other = checked(encoder(60.0), tmp_path)
    for n in other.graph.node:
        n.output[:] = [f"{o}_" if o not in ("y",) else o for o in n.output]
        n.input[:] = [f"{i}_" if any(f"{i}_" in m.output for m in other.graph.node) else i for i in n.input]
    with pytest.raises(CompileError, match="of another model"):
        quantize(other, measured, QuantizeConfig())


@pytest.mark.parametrize("options", [{"ratio": 1.0}, {"few": 1.0}, {"gain": 0.5}])
def test_options_out_of_range_are_sentences(options: dict[str, float]) -> None:
    with pytest.raises(CompileError, match="must be"):
        REWRITES.create("float_streams", options, "quantize.algorithms.float_streams")


def test_levels_are_by_the_median_channel() -> None:
    np.testing.assert_array_equal(levels(np.array([1.0, 0.0, 2.0, 2.0, 16.0])), [-1, 0, 0, 0, 3])
