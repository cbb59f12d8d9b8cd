"""Where int8 loses: the model with switches, the share of each tensor, what helps, and the page."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx_models import image_samples, save, small_net

from axforge.axcompiler.calibrate import collect
from axforge.axcompiler.check import run as check
from axforge.axcompiler.diagnosis import page
from axforge.axcompiler.diagnosis.findings import Diagnosis
from axforge.axcompiler.diagnosis.measure import diagnose
from axforge.axcompiler.diagnosis.switchable import Switchable
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Quant
from axforge.axcompiler.onnx_graph import qdq
from axforge.axcompiler.onnx_graph.sessions import FloatSession
from axforge.axcompiler.quantize import quantize
from axforge.axcompiler.stages import CalibrateConfig, CheckConfig, QuantizeConfig, silent
from axforge.axcompiler.statistics.artefacts import Statistics

Array = NDArray[np.generic]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[onnx.ModelProto, onnx.ModelProto, Statistics]:
    folder = tmp_path_factory.mktemp("diagnosis")
    check({"model.onnx": save(small_net(), folder)}, CheckConfig(), folder, silent)
    real = onnx.load(folder / "checked.onnx")
    statistics = collect(real, CalibrateConfig(), image_samples(16), silent)
    return quantize(real, statistics, QuantizeConfig(scheme="minmax"))[0], real, statistics


def cut(model: onnx.ModelProto, tensor: str, factor: float) -> onnx.ModelProto:
    """The QDQ model with the scale of one tensor made smaller, so that its large values saturate."""
    changed = onnx.ModelProto.FromString(model.SerializeToString())
    q = next(n for n in changed.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == tensor)
    scale = next(t for t in changed.graph.initializer if t.name == q.input[1])
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * np.float32(factor), scale.name))
    return changed


def test_with_all_switches_on_it_is_the_int8_model(compiled: tuple[onnx.ModelProto, onnx.ModelProto, Statistics]) -> None:
    model, _, statistics = compiled
    switchable = Switchable(model)
    as_written = onnxruntime.SessionOptions()  # its fused integer operators round ties by the CPU's instructions
    as_written.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), as_written, providers=["CPUExecutionProvider"])
    for example in statistics.examples[:3]:
        wanted = dict(zip(switchable.outputs, session.run(switchable.outputs, dict(example)), strict=True))
        found = switchable.run(example)
        for name in switchable.outputs:
            assert np.abs(found[name] - wanted[name]).max() <= 0.02 * np.abs(wanted[name]).max(), "a tie may fall to either side"
            assert np.mean(np.isclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)) > 0.9


def test_with_all_switches_off_only_weights_are_rounded(compiled: tuple[onnx.ModelProto, onnx.ModelProto, Statistics]) -> None:
    model, _, statistics = compiled
    switchable = Switchable(model)
    plain = onnx.ModelProto.FromString(model.SerializeToString())
    seen = qdq.read(model)
    renamed = {n.output[0]: n.input[0] for n in plain.graph.node if n.op_type == "QuantizeLinear"}
    for n in plain.graph.node:
        if n.op_type == "DequantizeLinear" and n.output[0] in seen.dequantized:
            n.op_type, real = "Identity", renamed[n.input[0]]
            del n.input[:], n.attribute[:]
            n.input.append(real)
    wanted = FloatSession(plain, "test").run(switchable.outputs, statistics.examples[0], 0)
    found = switchable.run(statistics.examples[0], off=[q.name for q in switchable.quantizers])
    for name in switchable.outputs:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-4)


def test_another_range_is_another_model(compiled: tuple[onnx.ModelProto, onnx.ModelProto, Statistics]) -> None:
    model, _, statistics = compiled
    switchable = Switchable(model)
    quantizer = switchable.quantizers[1]
    halved = Quant(float(np.float32(quantizer.quant.scale * 0.5)), quantizer.quant.zero_point)
    example = statistics.examples[0]
    found = switchable.run(example, other={quantizer.name: halved})
    wanted = Switchable(cut(model, quantizer.name, 0.5)).run(example)
    assert all((found[name] == wanted[name]).all() for name in switchable.outputs)


@pytest.mark.parametrize("k", [1, 2])
def test_a_range_cut_short_is_found_and_cured(compiled: tuple[onnx.ModelProto, onnx.ModelProto, Statistics], k: int) -> None:
    model, real, statistics = compiled
    victim = Switchable(model).quantizers[k].name
    found = diagnose(cut(model, victim, 0.1), real, statistics)
    worst = found.worst(1)[0]
    assert worst.tensor == victim
    assert worst.share > 0.5
    assert worst.saturated > 0.05
    assert worst.remedies[0].gain > 3
    assert any("minmax" in remedy.what or "exclude" in remedy.what for remedy in worst.remedies)
    healthy = diagnose(model, real, statistics)
    assert min(o.sqnr for o in healthy.outputs) > min(o.sqnr for o in found.outputs) + 3


def test_shares_are_of_one_sum_and_calibration_is_shown(compiled: tuple[onnx.ModelProto, onnx.ModelProto, Statistics]) -> None:
    model, real, statistics = compiled
    found = diagnose(model, real, statistics)
    assert sum(tensor.share for tensor in found.tensors) + found.weights == pytest.approx(1)
    assert len(found.calibration.covered) == len(statistics.examples)
    assert found.calibration.covered[-1] == 1
    assert list(found.calibration.covered) == sorted(found.calibration.covered)
    assert sum(found.calibration.extremes) >= len(found.tensors)
    document = json.loads(found.to_json())
    assert [tensor["tensor"] for tensor in document["tensors"]] == [q.name for q in Switchable(model).quantizers]
    assert diagnose(model, real, statistics).to_json() == found.to_json()


def test_copies_count_once() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["a"]), helper.make_node("DequantizeLinear", ["a", "s", "z"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["d"]), helper.make_node("DequantizeLinear", ["d", "s", "z"], ["e"]),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("QuantizeLinear", ["f", "s", "z"], ["g"]), helper.make_node("DequantizeLinear", ["g", "s", "z"], ["y"]),
    ]  # fmt: skip
    constants = [onnx.numpy_helper.from_array(np.float32(0.5), "s"), onnx.numpy_helper.from_array(np.uint8(128), "z")]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [1, 2, 4, 4])], [value("y", TensorProto.FLOAT, None)], constants)
    switchable = Switchable(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    assert [q.tensors for q in switchable.quantizers] == [("x", "c"), ("f",)]
    x = np.linspace(-100, 100, 32, dtype=np.float32).reshape(1, 2, 4, 4)
    pooled = np.stack([x[0, :, i : i + 3, j : j + 3] for i in (0, 1) for j in (0, 1)]).max(axis=0)
    assert (switchable.run({"x": x}, off=["x", "f"])["y"] == np.maximum(pooled, 0)).all()
    codes = np.maximum(np.clip(np.rint(pooled / np.float32(0.5)), -128, 127) * np.float32(0.5), 0)
    assert (switchable.run({"x": x})["y"][0] == codes).all()


def test_without_samples_there_is_a_sentence(compiled: tuple[onnx.ModelProto, onnx.ModelProto, Statistics]) -> None:
    with pytest.raises(CompileError, match="no calibration samples were kept"):
        diagnose(compiled[0], compiled[1], Statistics())


def test_the_page_stands_alone_and_names_do_nothing_in_it(
    compiled: tuple[onnx.ModelProto, onnx.ModelProto, Statistics], tmp_path: Path
) -> None:
    pytest.importorskip("plotly")
    model, real, statistics = compiled
    found = diagnose(model, real, statistics)
    evil = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'
    tensors = tuple(type(t)(**{f: getattr(t, f) for f in t.__struct_fields__} | {"tensor": evil, "op_type": evil}) for t in found.tensors)
    written = page.html(evil, Diagnosis(found.samples, found.outputs, found.weights, tensors, found.calibration))
    assert "<script>alert" not in written
    assert "<img src=x" not in written
    assert "https://" not in written.rpartition("</script></head>")[2], "nothing is loaded"
    assert "&lt;img src=x onerror" in written
    empty = page.html("m", Diagnosis(1, (), 0.0, (), type(found.calibration)((), ())))
    assert "0 tensors" in empty
