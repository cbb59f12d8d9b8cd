"""Splitting channels before a depthwise convolution: the same numbers in float, better ones in int8, and only where it helps."""

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_models import image_samples, model, run, save

from axforge.axcompiler import api, graphfile, optimize
from axforge.axcompiler.calibrate import collect
from axforge.axcompiler.calibrate import run as calibrate
from axforge.axcompiler.check import run as check
from axforge.axcompiler.placement.plan import make_plan
from axforge.axcompiler.quantize import quantize
from axforge.axcompiler.quantize import run as quantize_stage
from axforge.axcompiler.reference import Reference
from axforge.axcompiler.rewrites import split_channels
from axforge.axcompiler.stages import CALIBRATION, CalibrateConfig, CheckConfig, OptimizeConfig, QuantizeConfig, silent
from axforge.axcompiler.statistics import artefacts

Array = NDArray[np.float32]
node = helper.make_node
CHANNELS = 16


def separable(ends: str, *, spread: float = 300.0, activation: bool = True) -> onnx.ModelProto:
    """conv -> SiLU -> depthwise -> SiLU -> conv, where the depthwise weights undo what the first layer's channels differ by.

    ends: what reads the result: 'conv', 'pool' (and the conv), or 'chain' (a second separable block).
    """
    rng = np.random.default_rng(3)
    gains = np.geomspace(1, spread, CHANNELS).astype(np.float32)[rng.permutation(CHANNELS)].reshape(-1, 1, 1, 1)
    constants: dict[str, Array] = {
        "w1": rng.normal(0, 0.5, (CHANNELS, 3, 3, 3)).astype(np.float32) * gains,
        "b1": rng.uniform(0, 1, CHANNELS).astype(np.float32) * gains.reshape(-1),
        "d1": rng.normal(0, 0.5, (CHANNELS, 1, 3, 3)).astype(np.float32) / gains,
        "w2": rng.normal(0, 0.5, (CHANNELS, CHANNELS, 1, 1)).astype(np.float32) * gains,
        "d2": rng.normal(0, 0.5, (CHANNELS, 1, 3, 3)).astype(np.float32) / gains,
        "w3": rng.normal(0, 0.5, (4, CHANNELS, 1, 1)).astype(np.float32),
    }
    nodes: list[onnx.NodeProto] = []

    def layer(source: str, result: str, weights: list[str], group: int) -> str:
        raw = f"{result}_raw" if activation else result
        size = constants[weights[0]].shape[2]
        nodes.append(node("Conv", [source, *weights], [raw], f"{result}_conv", group=group, pads=[size // 2] * 4))
        if activation:
            nodes.append(node("Sigmoid", [raw], [f"{result}_s"], f"{result}_sigmoid"))
            nodes.append(node("Mul", [raw, f"{result}_s"], [result], f"{result}_mul"))
        return result

    t = layer(layer("x", "t1", ["w1", "b1"], 1), "u1", ["d1"], CHANNELS)
    if ends == "chain":
        t = layer(layer(t, "t2", ["w2"], 1), "u2", ["d2"], CHANNELS)
    nodes.append(node("Conv", [t, "w3"], ["y"], "last"))
    outputs = ["y"]
    if ends == "pool":
        nodes.append(node("MaxPool", [t], ["p"], "pool", kernel_shape=[2, 2]))
        nodes.append(node("Conv", ["p", "w3"], ["z"], "other"))
        outputs.append("z")
    return model(nodes, {"x": [1, 3, 16, 16]}, outputs, constants)


def checked(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    check({"model.onnx": save(proto, folder)}, CheckConfig(), folder, silent)
    return onnx.load(folder / "checked.onnx")


def int8_noise(proto: onnx.ModelProto, folder: Path, config: CalibrateConfig) -> float:
    """Error of the compiled model relative to the float one, both squared and summed over all outputs."""
    files = {name: folder / name for name in ("checked.onnx", "ranges.json", "histograms.npz", "samples.npz", "quantized.onnx")}
    checked(proto, folder)
    samples = image_samples(12)
    calibrate(files, config, folder, silent, samples=samples)
    quantize_stage(files, QuantizeConfig(), folder, silent)
    optimize.run(files, OptimizeConfig(), folder, silent)
    got, wanted = Reference(graphfile.load(folder / "graph.axgraph")).run(samples[0]), run(proto, samples[0])
    return sum(float(((got[n] - wanted[n]) ** 2).sum()) for n in wanted) / sum(float((wanted[n] ** 2).sum()) for n in wanted)


@pytest.mark.parametrize("ends", ["conv", "pool", "chain"])
@pytest.mark.parametrize("activation", [True, False])
def test_the_split_model_computes_the_same(tmp_path: Path, ends: str, activation: bool) -> None:
    proto = checked(separable(ends, activation=activation), tmp_path)
    plan = make_plan(proto)
    found = split_channels.chains(plan)
    assert [c.operand for c in found] == (["t1", "t2"] if ends == "chain" else ["t1"])
    order = np.random.default_rng(0).permutation(CHANNELS)
    groups = tuple(tuple(sorted(int(c) for c in part)) for part in np.split(order, [4, 12]))
    split, parts = split_channels.apply(proto, {c.operand: groups for c in found})
    onnx.checker.check_model(split, full_check=True)
    assert parts["t1_conv"] == ("t1_conv_channels0", "t1_conv_channels1", "t1_conv_channels2")
    sample = image_samples(1)[0]
    before, after = run(proto, sample), run(split, sample)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-4, atol=1e-5 * np.abs(value).max())
    assert any(n.op_type == "Gather" for n in split.graph.node) == (ends == "pool")


@pytest.mark.parametrize("ends", ["conv", "chain"])
def test_int8_loses_much_less(tmp_path: Path, ends: str) -> None:
    proto = separable(ends)
    whole = int8_noise(proto, tmp_path, CalibrateConfig(split_channels=False))
    split = int8_noise(proto, tmp_path, CalibrateConfig())
    assert artefacts.load(*(tmp_path / name for name in CALIBRATION)).decisions["split_channels"]
    assert split < whole / 8


def test_like_channels_stay_together_and_the_switch_is_heeded(tmp_path: Path) -> None:
    even = checked(separable("conv", spread=1.0), tmp_path)
    assert collect(even, CalibrateConfig(), image_samples(5), silent).decisions["split_channels"] == {}
    uneven = checked(separable("conv"), tmp_path)
    assert collect(uneven, CalibrateConfig(split_channels=False), image_samples(5), silent).decisions == {}
    assert list(collect(uneven, CalibrateConfig(), image_samples(5), silent).decisions["split_channels"]) == ["t1"]


def test_channels_that_a_clip_bounds_stay_together(tmp_path: Path) -> None:
    proto = separable("conv", activation=False)
    conv = next(n for n in proto.graph.node if n.name == "t1_conv")
    conv.output[0] = "t1_raw"
    proto.graph.initializer.extend([numpy_helper.from_array(np.float32(v), name) for name, v in (("zero", 0.0), ("six", 6.0))])
    proto.graph.node.insert(1, node("Clip", ["t1_raw", "zero", "six"], ["t1"], "relu6"))
    assert split_channels.chains(make_plan(checked(proto, tmp_path))) == []


def test_a_node_that_was_split_can_still_be_excluded(tmp_path: Path) -> None:
    proto = checked(separable("conv"), tmp_path)
    measured = collect(proto, CalibrateConfig(), image_samples(5), silent)
    quantized, _ = quantize(proto, measured, QuantizeConfig(exclude=("u1_conv",)))
    weights = {n.name: n.input[1] for n in quantized.graph.node if n.op_type == "Conv"}
    assert all(("quantized" in w or "dequantized" in w) == ("u1_conv" not in name) for name, w in weights.items())


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=40), st.floats(1e-3, 1e3))
def test_groups_are_all_channels_once_by_their_range(widths: list[float], result: float) -> None:
    channels = len(widths)
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(0, 1, (channels, 3, 1, 1)).astype(np.float32), "d": rng.normal(0, 1, (channels, 1, 3, 3)).astype(np.float32),
    }  # fmt: skip
    proto = model(
        [node("Conv", ["x", "w"], ["t"], "a"), node("Conv", ["t", "d"], ["y"], "b", group=channels)], {"x": [1, 3, 8, 8]}, ["y"], constants
    )
    proto.metadata_props.add(key="axforge.places", value="{}")
    plan = make_plan(proto)
    (chain,) = split_channels.chains(plan)
    groups = split_channels.decide(plan, chain, np.asarray(widths), result)
    assert sorted(c for group in groups for c in group) == list(range(channels))
    assert 1 <= len(groups) <= split_channels.MAX_GROUPS
    for a, b in itertools.pairwise(groups):
        assert max(widths[c] for c in a) <= min(widths[c] for c in b)
        assert len(a) % split_channels.STEP == 0


def test_a_vector_has_no_channels_to_split() -> None:
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    compiled = api.compile(proto, [{"x": np.array([-1, 0, 1], np.float32)}])
    np.testing.assert_allclose(compiled.run({"x": np.zeros(3, np.float32)})["y"], 0.5, atol=0.01)
