"""check: a network that carries a recurrent state from call to call stays in float32, and says so."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import run as onnx_run
from onnx_models import save

from axforge.axcompiler import api
from axforge.axcompiler.check import run as check
from axforge.axcompiler.onnx_graph.views import view
from axforge.axcompiler.placement.recurrent import carries_state
from axforge.axcompiler.stages import CheckConfig, silent

HIDDEN = 8


def net(*, state: bool, inner: bool = False) -> onnx.ModelProto:
    """A convolution over 1 x 4 x 1 x 6 and a GRU over its six steps, which begins at an input `h` or at zero; inner: within an If."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name)

    constants = [weight("k", 4, 4, 1, 3), weight("w", 1, 3 * HIDDEN, 4), weight("r", 1, 3 * HIDDEN, HIDDEN)]
    constants += [numpy_helper.from_array(np.array([6, 1, 4], np.int64), "steps"), numpy_helper.from_array(np.array(True), "yes")]
    gru = helper.make_node("GRU", ["s", "w", "r", "", "", "h" if state else ""], ["y", "hn"], hidden_size=HIDDEN)
    values = {name: [1, 1, HIDDEN] if name == "hn" else [6, 1, 1, HIDDEN] for name in ("y", "hn")}
    infos = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()}
    if inner:
        branches = [helper.make_graph([gru], f"b{i}", [], [infos["y"], infos["hn"]]) for i in range(2)]
        gru = helper.make_node("If", ["c"], ["y", "hn"], then_branch=branches[0], else_branch=branches[1])
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], pads=[0, 1, 0, 1]),
        helper.make_node("Transpose", ["a"], ["t"], perm=[3, 0, 1, 2]),
        helper.make_node("Reshape", ["t", "steps"], ["s"]),
        gru,
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 1, 6])]
    inputs += [helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 1, HIDDEN])] if state else []
    inputs += [helper.make_tensor_value_info("c", TensorProto.BOOL, [])] if inner else []
    graph = helper.make_graph(nodes, "g", inputs, list(infos.values()), constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("inner", [False, True])
def test_a_state_that_is_an_input_is_found(inner: bool) -> None:
    assert carries_state(view(net(state=True, inner=inner)))
    assert not carries_state(view(net(state=False, inner=inner)))


def test_a_network_that_carries_a_state_is_exact(tmp_path: Path) -> None:
    proto, rng = net(state=True), np.random.default_rng(1)
    shapes = {"x": (1, 4, 1, 6), "h": (1, 1, HIDDEN)}
    samples = [{name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(4)]
    compiled = api.compile(proto, samples)
    for name, expected in onnx_run(proto, samples[0]).items():
        np.testing.assert_allclose(compiled.run(samples[0])[name], expected, atol=1e-6)


def test_the_report_says_why_and_how_to_allow_it(tmp_path: Path) -> None:
    path = save(net(state=True), tmp_path)
    places = {}
    for allowed in (False, True):
        check({"model.onnx": path}, CheckConfig(float_state=not allowed), tmp_path, silent)
        report = json.loads((tmp_path / "support.json").read_text())
        places[allowed] = {node["op_type"]: (node["place"], node["reason"]) for node in report["nodes"]}
    assert places[False]["Conv"][0] == "cpu"
    assert "carries a state from call to call" in places[False]["Conv"][1]
    assert "compile.check.float_state: false" in places[False]["Conv"][1]
    assert places[True]["Conv"][0] == "aipu"
