"""check: a model whose weights are float16 compiles to int8 as its float32 twin does."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import save

from axforge.axcompiler import api
from axforge.axcompiler.check import run as check
from axforge.axcompiler.stages import CheckConfig, silent


def net(dtype: type, *, casts: bool = False) -> onnx.ModelProto:
    """A convolution and a Clip; with `casts`, float16 within and float32 at its borders."""
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


@pytest.mark.parametrize("casts", [False, True])
def test_float16_weights_run_on_the_aipu(tmp_path: Path, casts: bool) -> None:
    samples = [{"x": np.random.default_rng(i).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)} for i in range(4)]
    half = api.compile(net(np.float16, casts=casts), samples)
    full = api.compile(net(np.float32), samples)
    assert not half.graph.islands
    np.testing.assert_array_equal(half.run(samples[0])["y"], full.run(samples[0])["y"])


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
