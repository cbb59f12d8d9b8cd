"""Multiply-adds by place, counted for each kind of operator that sums products."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from axforge.axcompiler.__main__ import main
from axforge.axcompiler.onnx_graph.views import view
from axforge.axcompiler.operators import multiply_adds
from axforge.axcompiler.support import Offloaded, Share

CASES: dict[str, tuple[list[tuple[int, ...]], dict[str, Any], int]] = {
    "Conv": ([(1, 4, 6, 6), (8, 2, 3, 3)], {"group": 2}, 8 * 4 * 4 * 2 * 9),
    "ConvTranspose": ([(1, 4, 5, 5), (4, 3, 2, 2)], {"strides": [2, 2], "group": 2}, 100 * 3 * 4),
    "MatMul": ([(2, 5, 6), (6, 7)], {}, 2 * 5 * 7 * 6),
    "Gemm": ([(6, 5), (7, 6)], {"transA": 1, "transB": 1}, 5 * 7 * 6),
    "Einsum": ([(2, 5, 6), (2, 7, 6)], {"equation": "bik,bjk->bij"}, 2 * 5 * 7 * 6),
    "LSTM": ([(9, 2, 4), (1, 20, 4), (1, 20, 5)], {"hidden_size": 5}, 9 * 2 * (80 + 100)),
    "Add": ([(2, 3), (2, 3)], {}, 0),
}


@pytest.mark.parametrize("op_type", CASES)
def test_multiply_adds_of_a_node(op_type: str) -> None:
    shapes, attributes, wanted = CASES[op_type]
    inputs = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape) for i, shape in enumerate(shapes)]
    node = helper.make_node(op_type, [i.name for i in inputs], ["y"], **attributes)
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    assert multiply_adds(view(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])).nodes[0]) == wanted


def test_a_share_is_never_rounded_to_all_or_nothing() -> None:
    assert Share(1000, 999, ()).summary() == "only more than 99 % of the multiply-adds run on the AIPU"
    assert Share(1000, 1, ()).summary() == "only less than 1 % of the multiply-adds run on the AIPU"
    assert Share(1000, 0, ()).summary() == "no multiply-add runs on the AIPU"
    assert Share(0, 0, ()).enough
    assert Share(100, 90, ()).enough
    assert not Share(100, 89, ()).enough


def test_a_share_is_what_its_json_says() -> None:
    share = Share(10, 4, [Offloaded("n", "Conv", 6, "cpu", "why")])
    assert Share.of({"multiply_adds": json.loads(json.dumps(share.as_json()))}) == share


def test_the_compiler_without_doit_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = [numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w"), numpy_helper.from_array(np.ones((6, 4), np.float32), "v")]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("LpNormalization", ["c"], ["n"], name="norm"),
        helper.make_node("MatMul", ["n", "v"], ["y"], name="last"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [1, 3, 8, 8])], [value("y", TensorProto.FLOAT, None)], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(4, 1, 3, 8, 8)).astype(np.float32))
    words = [str(tmp_path / "m.onnx"), "--calibration", str(tmp_path / "x.npz"), "--end-node", "norm"]
    assert main(words) == 0
    assert (
        "warning: only 87 % of the multiply-adds run on the AIPU; most of the rest:\n      MatMul 'last', 13 %" in capsys.readouterr().err
    )
