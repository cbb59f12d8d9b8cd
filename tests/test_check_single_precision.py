"""check: a model whose weights are float16 or float64 compiles to int8 as its float32 twin does; weights that are no numbers are named."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import save

from axforge.axcompiler import api
from axforge.axcompiler.check import run as check
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.stages import CheckConfig, silent


def net(dtype: type, *, casts: bool = False) -> onnx.ModelProto:
    """A convolution and a Clip; with `casts`, `dtype` within and float32 at its borders."""
    rng = np.random.default_rng(0)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    border = TensorProto.FLOAT if casts else kind
    weights = numpy_helper.from_array(rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float16).astype(dtype), "w")
    top = helper.make_node("Constant", [], ["top"], value=numpy_helper.from_array(np.array(6, dtype)))
    nodes = [top, helper.make_node("Conv", ["a", "w"], ["c"], pads=[1] * 4), helper.make_node("Clip", ["c", "", "top"], ["b"])]
    nodes.insert(1, helper.make_node("Cast", ["x"], ["a"], to=kind) if casts else helper.make_node("Identity", ["x"], ["a"]))
    nodes.append(helper.make_node("Cast", ["b"], ["y"], to=border) if casts else helper.make_node("Identity", ["b"], ["y"]))
    inputs = [helper.make_tensor_value_info("x", border, [1, 3, 8, 8])]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", border, None)], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
@pytest.mark.parametrize("casts", [False, True])
def test_other_floats_run_on_the_aipu(tmp_path: Path, casts: bool, kind: type) -> None:
    samples = [{"x": np.random.default_rng(i).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)} for i in range(4)]
    other = api.compile(net(kind, casts=casts), samples)
    full = api.compile(net(np.float32), samples)
    assert not other.graph.islands
    np.testing.assert_array_equal(other.run(samples[0])["y"], full.run(samples[0])["y"])


def test_float16_without_a_layer_stays(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 4])],
    )
    path = save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path)
    check({"model.onnx": path}, CheckConfig(), tmp_path, silent)
    assert onnx.load_model(tmp_path / "checked.onnx").graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, value: float) -> None:
    model = net(np.float64)
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[1, 2] = value
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    with pytest.raises(CompileError, match=r"tensor 'w', weights of Conv '.*', has 9 values that are NaN or infinite"):
        check({"model.onnx": save(model, tmp_path)}, CheckConfig(), tmp_path, silent)


def test_minus_infinity_in_a_mask_is_no_weight(tmp_path: Path) -> None:
    mask = numpy_helper.from_array(np.array([0, -np.inf, 0, 0], np.float32), "mask")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "mask"], ["a"]), helper.make_node("Softmax", ["a"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [mask],
    )
    path = save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path)
    check({"model.onnx": path}, CheckConfig(), tmp_path, silent)
