"""Layer normalization written out, as exporters below opset 17 do, becomes the operator; anything that only looks like it stays."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, defs, helper
from onnx_models import model, run, save

from axforge.axcompiler import api
from axforge.axcompiler.check import run as check
from axforge.axcompiler.stages import CheckConfig, silent

node = helper.make_node
DEPTH = 24


def parts(
    *,
    square: str = "Pow",
    epsilon_first: bool = False,
    twice: bool = False,
    axes: Any = (-1,),
    opset: int = 13,
    tail: tuple[str, ...] = ("Mul", "Add"),
) -> list[NodeProto]:
    """The nodes from x to y."""

    def mean(x: str, y: str) -> NodeProto:
        return node("ReduceMean", [x, "axes"], [y]) if opset >= 18 else node("ReduceMean", [x], [y], axes=list(axes))

    nodes = [mean("x0", "m"), node("Sub", ["x0", "m"], ["d"])]
    nodes += [node("Sub", ["x0", "m"], ["d2"])] if twice else []
    nodes += [node("Pow", ["d", "two"], ["q"]) if square == "Pow" else node("Mul", ["d", "d"], ["q"])]
    nodes += [mean("q", "v"), node("Add", ["eps", "v"] if epsilon_first else ["v", "eps"], ["e"]), node("Sqrt", ["e"], ["s"])]
    nodes += [node("Div", ["d2" if twice else "d", "s"], ["n"])]
    last = "n"
    for op in tail:
        name = {"Mul": "scale", "Add": "bias"}[op]
        nodes.append(node(op, [last, name] if op == "Add" else [name, last], [op.lower()]))
        last = op.lower()
    return [*nodes, node("Gemm", [last, "w"], ["y"])]


def written_out(nodes: list[NodeProto], opset: int = 13, extra: dict[str, Any] | None = None) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    constants = {
        "w0": rng.normal(0, 0.3, (10, DEPTH)).astype(np.float32),
        "w": rng.normal(0, 0.3, (DEPTH, 5)).astype(np.float32),
        "two": np.float32(2.0),
        "eps": np.float32(1e-5),
        "scale": rng.normal(1, 0.2, DEPTH).astype(np.float32),
        "bias": rng.normal(0, 0.2, (1, DEPTH)).astype(np.float32),
        "axes": np.asarray([-1], np.int64),
        **(extra or {}),
    }
    used = {name for n in nodes for name in n.input}
    constants = {k: np.asarray(v) for k, v in constants.items() if k in used or k == "w0"}
    return model([node("Gemm", ["x", "w0"], ["x0"]), *nodes], {"x": [6, 10]}, ["y"], constants, opset)


def checked(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The checked model, which computes the same."""
    check({"model.onnx": save(proto, folder)}, CheckConfig(), folder, silent)
    clean = onnx.load(folder / "checked.onnx")
    feeds = {"x": np.random.default_rng(1).normal(size=(6, 10)).astype(np.float32)}
    np.testing.assert_allclose(run(clean, feeds)["y"], run(proto, feeds)["y"], rtol=1e-4, atol=1e-5, equal_nan=True)
    return clean


def operators(proto: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in proto.graph.node]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"square": "Mul"},
        {"epsilon_first": True},
        {"twice": True},
        {"axes": (1,)},
        {"opset": 18},
        {"tail": ("Mul",)},
        {"tail": ("Add",)},
        {"tail": ()},
    ],
    ids=str,
)
def test_it_becomes_one_operator(how: dict[str, Any], tmp_path: Path) -> None:
    opset = how.get("opset", 13)
    clean = checked(written_out(parts(**how), opset), tmp_path)
    assert operators(clean) == ["Gemm", "LayerNormalization", "Gemm"]
    assert clean.opset_import[0].version == max(opset, 17)


def test_a_scale_that_is_one_number_is_taken_in(tmp_path: Path) -> None:
    clean = checked(written_out(parts(), extra={"scale": np.float32(1.5)}), tmp_path)
    assert operators(clean) == ["Gemm", "LayerNormalization", "Gemm"]


def test_a_scale_for_each_row_stays_outside(tmp_path: Path) -> None:
    clean = checked(written_out(parts(), extra={"scale": np.full((6, 1), 1.5, np.float32)}), tmp_path)
    assert operators(clean)[:3] == ["Gemm", "LayerNormalization", "Mul"]


def test_means_over_another_axis_stay(tmp_path: Path) -> None:
    assert "LayerNormalization" not in operators(checked(written_out(parts(axes=(0,))), tmp_path))


def test_a_cube_stays(tmp_path: Path) -> None:
    assert "LayerNormalization" not in operators(checked(written_out(parts(), extra={"two": np.float32(3.0)}), tmp_path))


def test_what_others_read_stays(tmp_path: Path) -> None:
    nodes = parts()
    nodes[-1].output[0] = "y0"
    nodes.append(node("Add", ["y0", "s"], ["y"]))
    assert "LayerNormalization" not in operators(checked(written_out(nodes), tmp_path))


def test_an_operator_that_changed_keeps_the_opset(tmp_path: Path) -> None:
    rois = {"rois": np.asarray([[0, 0, 3, 3]], np.float32), "which": np.zeros(1, np.int64), "shape": np.asarray([1, 1, 6, 5], np.int64)}
    nodes = parts()
    nodes[-1].output[0] = "y0"
    nodes += [node("Reshape", ["y0", "shape"], ["image"]), node("RoiAlign", ["image", "rois", "which"], ["y"])]
    clean = checked(written_out(nodes, extra=rois), tmp_path)
    assert clean.opset_import[0].version < 16
    assert "LayerNormalization" not in operators(clean)


def test_no_other_operator_changed_between_opset_13_and_17() -> None:
    """What the pass relies on: new attributes have a default, which is how the operator worked before, but for RoiAlign."""
    changed = set()
    for name in {s.name for s in defs.get_all_schemas_with_history() if s.domain == "" and s.since_version <= 13}:
        if not defs.has(name, 13, ""):
            continue
        then, now = defs.get_schema(name, 13), defs.get_schema(name, 17)
        if (
            {k: v.default_value for k, v in then.attributes.items()} != {k: v.default_value for k, v in now.attributes.items()}
            or [(i.name, i.option) for i in then.inputs] != [(i.name, i.option) for i in now.inputs]
            or len(then.outputs) != len(now.outputs)
        ):
            changed.add(name)
    zero_is_as_before = {"GRU", "LSTM", "RNN", "Reshape", "Shape"}
    none_is_as_before = {"ScatterElements", "ScatterND"}
    assert changed == {"BatchNormalization", "RoiAlign"} | zero_is_as_before | none_is_as_before


def test_it_runs_on_the_aipu(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    samples = [{"x": rng.normal(size=(6, 10)).astype(np.float32)} for _ in range(8)]
    compiled = api.compile(written_out(parts()), samples, workdir=tmp_path)
    assert [type(op).__name__ for op in compiled.graph.ops] == ["FullyConnected", "LayerNorm", "FullyConnected"]
    want, got = run(written_out(parts()), samples[0])["y"], compiled.run(samples[0])["y"]
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()
