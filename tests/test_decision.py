"""Where a node runs and what is fused into what: decided once, carried by the models, and verified by the stages that follow."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import image_samples, model, save, small_net

from axforge.axcompiler import optimize
from axforge.axcompiler.calibrate import run as calibrate
from axforge.axcompiler.check import run as check
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.placement import decision
from axforge.axcompiler.placement.plan import make_plan
from axforge.axcompiler.quantize import run as quantize
from axforge.axcompiler.stages import CalibrateConfig, CheckConfig, QuantizeConfig, silent

node = helper.make_node


def quantized(folder: Path, exclude: tuple[str, ...] = ()) -> onnx.ModelProto:
    files = {name: folder / name for name in ("checked.onnx", "ranges.json", "histograms.npz", "samples.npz", "quantized.onnx")}
    check({"model.onnx": save(small_net(), folder)}, CheckConfig(), folder, silent)
    calibrate(files, CalibrateConfig(), folder, silent, samples=image_samples(4))
    quantize(files, QuantizeConfig(exclude=exclude), folder, silent)
    return onnx.load(files["quantized.onnx"])


def change(proto: onnx.ModelProto, key: str, value: object) -> onnx.ModelProto:
    helper.set_model_props(proto, {**{e.key: e.value for e in proto.metadata_props}, key: json.dumps(value)})
    return proto


def test_the_quantized_model_says_what_runs_where_and_what_is_fused(tmp_path: Path) -> None:
    found = decision.recorded(quantized(tmp_path))
    assert found.places == {"sub": "preprocess", "softmax": "postprocess"}
    assert found.fused == {"relu": "conv1"}


def test_an_excluded_node_is_recorded_and_no_node_is_added_for_it(tmp_path: Path) -> None:
    plain = sorted(n.op_type for n in quantized(tmp_path).graph.node if n.op_type not in ("QuantizeLinear", "DequantizeLinear"))
    proto = quantized(tmp_path, exclude=("pool",))
    assert sorted(n.op_type for n in proto.graph.node if n.op_type not in ("QuantizeLinear", "DequantizeLinear")) == plain
    assert decision.recorded(proto).places["pool"] == "cpu"
    (island,) = [op for op in optimize.optimize(proto).ops if "pool" in op.origin]
    assert type(island).__name__ == "Island"
    assert "'pool': it was excluded from the AIPU" in island.reason


def test_excluding_a_layer_excludes_what_is_fused_into_it(tmp_path: Path) -> None:
    found = decision.recorded(quantized(tmp_path, exclude=("relu",)))
    assert {found.places[name] for name in ("conv1", "relu")} == {"cpu"}
    assert found.fused == {}


def test_optimize_refuses_a_model_that_is_not_as_decided(tmp_path: Path) -> None:
    proto = quantized(tmp_path)
    with pytest.raises(CompileError, match="'softmax' was to run on the AIPU, and "):
        optimize.optimize(change(proto, decision.PLACES, {"preprocess": ["sub"]}))
    with pytest.raises(CompileError, match="'relu' was not to be fused"):
        optimize.optimize(change(quantized(tmp_path), decision.FUSED, {}))
    with pytest.raises(CompileError, match="'pool' was to be fused"):
        optimize.optimize(change(quantized(tmp_path), decision.FUSED, {"relu": "conv1", "pool": "conv1"}))


def test_quantize_refuses_a_place_that_the_aipu_cannot_take(tmp_path: Path) -> None:
    proto = model([node("Det", ["x"], ["y"], "determinant")], {"x": [1, 3, 3]}, ["y"])
    check({"model.onnx": save(proto, tmp_path)}, CheckConfig(), tmp_path, silent)
    checked = onnx.load(tmp_path / "checked.onnx")
    make_plan(checked)
    with pytest.raises(CompileError, match="'determinant' on the AIPU, which cannot run it: the AIPU has no operator for Det"):
        make_plan(change(checked, decision.PLACES, {}))


def test_the_qdq_form_decides_in_a_model_without_a_decision(tmp_path: Path) -> None:
    proto = quantized(tmp_path)
    with_decision = optimize.optimize(proto)
    del proto.metadata_props[:]
    assert optimize.optimize(proto).ops == with_decision.ops


def test_a_model_that_came_quantized_is_placed_as_it_will_be_lowered(tmp_path: Path) -> None:
    """The copy of codes between Q and DQ runs on the AIPU, and the report says so."""
    constants = {"s": np.asarray(0.1, np.float32), "z": np.asarray(3, np.int8), "shape": np.asarray([4, 1], np.int64)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        node("Reshape", ["q", "shape"], ["r"], "reshape"),
        node("DequantizeLinear", ["r", "s", "z"], ["y"], "dq"),
    ]
    check({"model.onnx": save(model(nodes, {"x": [1, 4]}, ["y"], constants), tmp_path)}, CheckConfig(), tmp_path, silent)
    places = {n["node"]: n["place"] for n in json.loads((tmp_path / "support.json").read_bytes())["nodes"]}
    assert places["reshape"] == "aipu"
    graph = optimize.optimize(onnx.load(tmp_path / "checked.onnx"))
    assert [type(op).__name__ for op in graph.ops] == ["Reshape"]
