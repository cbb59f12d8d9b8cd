"""Cross-layer equalization: the same bits in float, better ones in int8, and only between layers that allow it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_models import image_samples, model, run, save

from axforge.axcompiler import api
from axforge.axcompiler.calibrate import collect
from axforge.axcompiler.check import run as check
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.placement.plan import make_plan
from axforge.axcompiler.quantize import quantize
from axforge.axcompiler.rewrites.equalize import HEADROOM, Equalize, pairs
from axforge.axcompiler.stages import AlgorithmOptions, CalibrateConfig, CheckConfig, QuantizeConfig, silent

Array = NDArray[np.float32]
node = helper.make_node
CHANNELS = 16
ON: dict[str, AlgorithmOptions] = {"equalize": True}


def uneven(second: str = "conv", activation: str = "Relu") -> onnx.ModelProto:
    """conv -> activation -> conv or depthwise conv -> conv, where the second layer undoes what the first layer's channels differ by."""
    rng = np.random.default_rng(3)
    gains = np.geomspace(1, 100, CHANNELS).astype(np.float32)[rng.permutation(CHANNELS)]
    depthwise = second == "depthwise"
    w2 = rng.normal(0, 0.5, (CHANNELS, 1 if depthwise else CHANNELS, 3, 3)).astype(np.float32)
    constants: dict[str, Array] = {
        "w1": rng.normal(0, 0.5, (CHANNELS, 3, 3, 3)).astype(np.float32) * gains.reshape(-1, 1, 1, 1),
        "b1": rng.uniform(0, 1, CHANNELS).astype(np.float32) * gains,
        "w2": w2 / (gains.reshape(-1, 1, 1, 1) if depthwise else gains.reshape(1, -1, 1, 1)),
        "w3": rng.normal(0, 0.5, (4, CHANNELS, 1, 1)).astype(np.float32),
    }
    nodes = [node("Conv", ["x", "w1", "b1"], ["t"], "first")]
    if activation:
        nodes.append(node(activation, ["t"], ["a"], "activation"))
    nodes.append(node("Conv", ["a" if activation else "t", "w2"], ["u"], "second", group=CHANNELS if depthwise else 1))
    nodes.append(node("Conv", ["u", "w3"], ["y"], "last"))
    return model(nodes, {"x": [1, 3, 16, 16]}, ["y"], constants)


def checked(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    check({"model.onnx": save(proto, folder)}, CheckConfig(), folder, silent)
    return onnx.load(folder / "checked.onnx")


def noise(proto: onnx.ModelProto, algorithms: dict[str, AlgorithmOptions]) -> float:
    """Error of the compiled model relative to the float one, both squared."""
    samples = image_samples(12)
    got = api.compile(proto, samples, api.Options(quantize=QuantizeConfig(algorithms=algorithms))).run(samples[0])["y"]
    wanted = run(proto, samples[0])["y"]
    return float(((got - wanted) ** 2).sum() / (wanted**2).sum())


@pytest.mark.parametrize("second", ["conv", "depthwise"])
@pytest.mark.parametrize("activation", ["Relu", ""])
def test_the_float_model_gives_the_same_bits(tmp_path: Path, second: str, activation: str) -> None:
    proto = checked(uneven(second, activation), tmp_path)
    decision = collect(proto, CalibrateConfig(algorithms=ON), image_samples(5), silent).decisions["equalize"]
    assert ("a" if activation else "t") in decision
    equalized, _ = Equalize().rewrite(proto, decision)
    onnx.checker.check_model(equalized, full_check=True)
    assert len(equalized.graph.initializer) == len(proto.graph.initializer)
    for sample in image_samples(3):
        np.testing.assert_array_equal(run(equalized, sample)["y"], run(proto, sample)["y"])


@pytest.mark.parametrize("second", ["conv", "depthwise"])
def test_int8_loses_less(second: str) -> None:
    proto = uneven(second)
    off: dict[str, AlgorithmOptions] = {"split_channels": False}
    assert noise(proto, off | ON) < noise(proto, off) / 4


def test_small_channels_grow_and_the_widest_does_not_before_a_depthwise_convolution(tmp_path: Path) -> None:
    proto, samples = checked(uneven("depthwise"), tmp_path), image_samples(4)
    decision = collect(proto, CalibrateConfig(algorithms={"equalize": {"limit": 1024.0}}), samples, silent).decisions["equalize"]
    narrow, wide = (onnx.ModelProto.FromString(m.SerializeToString()) for m in (proto, Equalize().rewrite(proto, decision)[0]))
    for shown in (narrow, wide):
        shown.graph.output.append(helper.make_empty_tensor_value_info("a"))
    before, after = (np.max([run(m, s)["a"].max(axis=(0, 2, 3)) for s in samples], axis=0) for m in (narrow, wide))
    assert after.max() == before.max()
    assert before.max() > 50 * before[before > 0].min()
    assert after.max() <= 2 * HEADROOM * after[after > 0].min()


def test_layers_that_gain_little_are_left_alone(tmp_path: Path) -> None:
    proto = uneven("depthwise")
    constants = {t.name: t for t in proto.graph.initializer}
    w1 = np.random.default_rng(0).normal(0, 0.5, (CHANNELS, 3, 3, 3)).astype(np.float32)
    constants["w1"].CopyFrom(numpy_helper.from_array(w1, "w1"))
    constants["b1"].CopyFrom(numpy_helper.from_array(np.ones(CHANNELS, np.float32), "b1"))
    measured = collect(checked(proto, tmp_path), CalibrateConfig(algorithms=ON), image_samples(4), silent)
    assert "a" not in measured.decisions["equalize"]


def test_other_layers_are_left_alone(tmp_path: Path) -> None:
    assert [p.between for p in pairs(make_plan(checked(uneven(activation="Sigmoid"), tmp_path)))] == ["u"]
    shared = uneven()
    shared.graph.node.append(node("MaxPool", ["a"], ["p"], "pool", kernel_shape=[2, 2]))
    shared.graph.node.append(node("Conv", ["p", "w3"], ["z"], "other"))
    shared.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    assert "a" not in [p.between for p in pairs(make_plan(checked(shared, tmp_path)))]


def test_off_by_default_and_needs_calibration(tmp_path: Path) -> None:
    proto = checked(uneven(), tmp_path)
    plain = collect(proto, CalibrateConfig(), image_samples(4), silent)
    assert "equalize" not in plain.decisions
    with pytest.raises(CompileError, match="'equalize' was not on while calibrating"):
        quantize(proto, plain, QuantizeConfig(algorithms=ON))
    with pytest.raises(CompileError, match=r"limit is 0\.5"):
        collect(proto, CalibrateConfig(algorithms={"equalize": {"limit": 0.5}}), image_samples(4), silent)
