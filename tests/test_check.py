"""check: the same function in plain form, every node in its place, the same bytes whatever does not matter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import image_samples, model, run, save, small_net

from axforge.axcompiler.check import run as check
from axforge.axcompiler.placement import decision
from axforge.axcompiler.stages import CheckConfig, silent

node = helper.make_node


def checked(proto: onnx.ModelProto, folder: Path, config: CheckConfig | None = None) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The checked model, and the place of each node."""
    check({"model.onnx": save(proto, folder)}, config or CheckConfig(), folder, silent)
    support = json.loads((folder / "support.json").read_bytes())
    return onnx.load(folder / "checked.onnx"), {n["node"]: n["place"] for n in support["nodes"]}


def test_function_is_kept_and_nodes_are_placed(tmp_path: Path) -> None:
    proto = small_net()
    clean, places = checked(proto, tmp_path)
    feeds = image_samples(1)[0]
    np.testing.assert_allclose(run(clean, feeds)["y"], run(proto, feeds)["y"], rtol=1e-5, atol=1e-6)
    assert places == {
        "sub": "preprocess",
        **dict.fromkeys(("conv1", "relu", "conv2", "sigmoid", "silu", "pool", "concat", "gap", "flatten", "fc"), "aipu"),
        "softmax": "postprocess",
        "bn": "folded",
        "copy": "folded",
    }
    assert not any(n.op_type in ("BatchNormalization", "Identity", "Constant") for n in clean.graph.node)
    assert set(decision.recorded(clean).places) == {"sub", "softmax"}


def test_every_entry_of_the_report_has_a_reason(tmp_path: Path) -> None:
    checked(small_net(), tmp_path)
    report = json.loads((tmp_path / "support.json").read_bytes())
    assert {n["node"] for n in report["nodes"]} == {n.name for n in small_net().graph.node}
    assert all(n["reason"] and n["op_type"] for n in report["nodes"])
    assert sum(report["counts"].values()) == len(report["nodes"])


def test_remarks_and_names_of_tools_change_no_byte(tmp_path: Path) -> None:
    plain, noisy = small_net(), small_net(doc="exported on a Monday")
    noisy.producer_name, noisy.producer_version, noisy.model_version, noisy.graph.name = "pytorch", "2.1", 7, "torch_jit"
    noisy.graph.doc_string = noisy.graph.node[0].doc_string = noisy.graph.initializer[0].doc_string = "a remark"
    helper.set_model_props(noisy, {"author": "somebody"})
    raw = noisy.graph.initializer[1]
    floats = numpy_helper.to_array(raw).reshape(-1).tolist()
    raw.ClearField("raw_data")
    raw.float_data.extend(floats)
    for name, proto in (("a", plain), ("b", noisy)):
        (tmp_path / name).mkdir()
        checked(proto, tmp_path / name)
    for artefact in ("checked.onnx", "support.json"):
        assert (tmp_path / "a" / artefact).read_bytes() == (tmp_path / "b" / artefact).read_bytes()


def test_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    save(small_net(), tmp_path)
    code = (
        "import sys; from pathlib import Path; from axforge.axcompiler import check, stages; p = Path(sys.argv[1]); o = p / sys.argv[2];"
        "o.mkdir(); check.run({'model.onnx': p / 'model.onnx'}, stages.CheckConfig(), o, stages.silent)"
    )
    for seed in ("1", "2"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path), seed], check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    for artefact in ("checked.onnx", "support.json"):
        assert (tmp_path / "1" / artefact).read_bytes() == (tmp_path / "2" / artefact).read_bytes()


def test_batch_is_one_unless_it_is_pinned(tmp_path: Path) -> None:
    clean, _ = checked(small_net(batch="N"), tmp_path)
    assert [d.dim_value for d in clean.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 16, 16]
    clean, _ = checked(small_net(batch="N", size="s"), tmp_path, CheckConfig(input_shapes={"x": (2, 3, 24, 24)}))
    assert [d.dim_value for d in clean.graph.input[0].type.tensor_type.shape.dim] == [2, 3, 24, 24]
    assert [d.dim_value for d in clean.graph.output[0].type.tensor_type.shape.dim] == [2, 5]


def test_a_symbol_pinned_in_one_input_is_pinned_in_all(tmp_path: Path) -> None:
    proto = model([node("Add", ["a", "b"], ["y"])], {"a": ["n", "w"], "b": ["n", "w"]}, ["y"])
    clean, _ = checked(proto, tmp_path, CheckConfig(input_shapes={"a": (1, 7)}))
    assert [d.dim_value for d in clean.graph.input[1].type.tensor_type.shape.dim] == [1, 7]


def test_weights_listed_as_inputs_and_old_opset(tmp_path: Path) -> None:
    proto = model(
        [node("Conv", ["x", "w"], ["c"]), node("Dropout", ["c"], ["d"]), node("Relu", ["d"], ["y"])],
        {"x": [1, 2, 6, 6], "w": [4, 2, 3, 3]},
        ["y"],
        {"w": np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32)},
        opset=9,
    )
    proto.ir_version = 3
    clean, places = checked(proto, tmp_path)
    assert [i.name for i in clean.graph.input] == ["x"]
    assert clean.opset_import[0].version == 13
    assert sorted(places.values()) == ["aipu", "aipu", "folded"]
    feeds = {"x": np.random.default_rng(0).normal(size=(1, 2, 6, 6)).astype(np.float32)}
    np.testing.assert_allclose(run(clean, feeds)["y"], run(proto, feeds)["y"], rtol=1e-5)


def test_shape_arithmetic_is_folded(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Constant", [], ["zero"], value_int=0),
        node("Gather", ["s", "zero"], ["n"]),
        node("Constant", [], ["axes"], value_ints=[0]),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Constant", [], ["minus"], value_ints=[-1]),
        node("Concat", ["n1", "minus"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    clean, places = checked(model(nodes, {"x": ["N", 3, 4]}, ["y"]), tmp_path)
    assert [n.op_type for n in clean.graph.node] == ["Reshape"]
    assert list(places.values()).count("folded") == 7


def test_folding_does_not_bloat_the_model(tmp_path: Path) -> None:
    nodes = [node("Expand", ["one", "shape"], ["big"], "expand"), node("Add", ["x", "big"], ["y"], "add")]
    constants = {"one": np.ones(1, np.float32), "shape": np.asarray([1, 64, 256, 256], np.int64)}
    clean, _ = checked(model(nodes, {"x": [1, 64, 256, 256]}, ["y"], constants), tmp_path)
    assert clean.ByteSize() < 100_000
    assert "Expand" in {n.op_type for n in clean.graph.node}


def test_scalars_stay_scalars(tmp_path: Path) -> None:
    nodes = [node("Mul", ["two", "three"], ["six"]), node("Add", ["x", "six"], ["y"])]
    constants = {"two": np.asarray(2, np.float32), "three": np.asarray(3, np.float32)}
    clean, _ = checked(model(nodes, {"x": []}, ["y"], constants), tmp_path)
    assert run(clean, {"x": np.asarray(1, np.float32)})["y"].shape == ()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_affine_steps_move_into_the_layer(tmp_path: Path, op: str, groups: int) -> None:
    rng = np.random.default_rng(3)
    shape = (6, 4 // groups, 3, 3) if op == "Conv" else (4, 6 // groups, 3, 3)
    constants = {
        "w": rng.normal(size=shape).astype(np.float32),
        "scale": rng.uniform(0.5, 2, (1, 6, 1, 1)).astype(np.float32),
        "shift": rng.normal(size=(6, 1, 1)).astype(np.float32),
        "half": np.asarray(0.5, np.float32),
    }
    nodes = [
        node(op, ["x", "w"], ["c"], "layer", group=groups),
        node("Mul", ["scale", "c"], ["m"], "mul"),
        node("Sub", ["shift", "m"], ["s"], "sub"),
        node("Div", ["s", "half"], ["y"], "div"),
    ]
    proto = model(nodes, {"x": [1, 4, 7, 7]}, ["y"], constants)
    clean, _ = checked(proto, tmp_path)
    assert [n.op_type for n in clean.graph.node] == [op]
    feeds = {"x": rng.normal(size=(1, 4, 7, 7)).astype(np.float32)}
    np.testing.assert_allclose(run(clean, feeds)["y"], run(proto, feeds)["y"], rtol=1e-4, atol=1e-4)


def test_padding_and_bias_move_into_the_layer(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    constants = {
        "pads": np.asarray([0, 0, 1, 2, 0, 0, 3, 0], np.int64),
        "w": rng.normal(size=(2, 2, 3, 3)).astype(np.float32),
        "m": rng.normal(size=(5, 7)).astype(np.float32),
        "b": rng.normal(size=7).astype(np.float32),
    }
    nodes = [
        node("Pad", ["x", "pads"], ["p"]),
        node("Conv", ["p", "w"], ["c"]),
        node("MatMul", ["c", "m"], ["mm"]),
        node("Add", ["b", "mm"], ["y"]),
    ]
    proto = model(nodes, {"x": [1, 2, 6, 5]}, ["y"], constants)
    clean, _ = checked(proto, tmp_path)
    assert [n.op_type for n in clean.graph.node] == ["Conv", "Reshape", "Gemm", "Reshape"]
    feeds = {"x": rng.normal(size=(1, 2, 6, 5)).astype(np.float32)}
    np.testing.assert_allclose(run(clean, feeds)["y"], run(proto, feeds)["y"], rtol=1e-4, atol=1e-4)


def detector() -> onnx.ModelProto:
    """Two heads, one decoded with a softmax expectation (DFL) and constants, joined with the sigmoid of the other."""
    rng = np.random.default_rng(5)
    constants = {
        "w0": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "wb": rng.normal(size=(16, 4, 1, 1)).astype(np.float32),
        "wc": rng.normal(size=(5, 4, 1, 1)).astype(np.float32),
        "dfl": np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1),
        "s1": np.asarray([1, 4, 4, 64], np.int64),
        "s2": np.asarray([1, 4, 64], np.int64),
        "s3": np.asarray([1, 5, 64], np.int64),
        "stride": np.asarray(8, np.float32),
    }
    nodes = [
        node("Conv", ["x", "w0"], ["f"], "stem", pads=[1, 1, 1, 1]),
        node("LeakyRelu", ["f"], ["a"], "act"),
        node("Conv", ["a", "wb"], ["box"], "box"),
        node("Conv", ["a", "wc"], ["cls"], "cls"),
        node("Reshape", ["box", "s1"], ["b1"], "b1"),
        node("Transpose", ["b1"], ["b2"], "b2", perm=[0, 2, 1, 3]),
        node("Softmax", ["b2"], ["b3"], "b3", axis=1),
        node("Conv", ["b3", "dfl"], ["b4"], "dfl"),
        node("Reshape", ["b4", "s2"], ["b5"], "b5"),
        node("Mul", ["b5", "stride"], ["b6"], "b6"),
        node("Reshape", ["cls", "s3"], ["c1"], "c1"),
        node("Sigmoid", ["c1"], ["c2"], "c2"),
        node("Concat", ["b6", "c2"], ["y"], "join", axis=1),
    ]
    return model(nodes, {"x": [1, 3, 8, 8]}, ["y"], constants)


def test_box_decoding_goes_to_the_host(tmp_path: Path) -> None:
    _, places = checked(detector(), tmp_path)
    assert {n for n, p in places.items() if p == "aipu"} == {"stem", "act", "box", "cls"}
    assert set(places.values()) == {"aipu", "postprocess"}


def test_tail_stays_when_asked_and_ends_where_asked(tmp_path: Path) -> None:
    _, places = checked(detector(), tmp_path, CheckConfig(cut_tail=False))
    assert places["c2"] == places["join"] == "aipu"
    _, places = checked(detector(), tmp_path, CheckConfig(end_nodes=("a",)))
    assert {n for n, p in places.items() if p == "aipu"} == {"stem", "act"}
    _, places = checked(small_net(), tmp_path, CheckConfig(cut_head=False))
    assert places["sub"] == "aipu"


def test_focus_stays_on_the_aipu(tmp_path: Path) -> None:
    constants = {"w": np.ones((2, 6, 1, 1), np.float32)}
    for i in range(2):
        constants |= {f"s{i}": np.asarray([i], np.int64), "e": np.asarray([99], np.int64), "a": np.asarray([3], np.int64)}
    constants["st"] = np.asarray([2], np.int64)
    nodes = [node("Slice", ["x", f"s{i}", "e", "a", "st"], [f"p{i}"], f"slice{i}") for i in range(2)]
    nodes += [node("Concat", ["p0", "p1"], ["c"], "concat", axis=1), node("Conv", ["c", "w"], ["y"], "conv")]
    _, places = checked(model(nodes, {"x": [1, 3, 4, 4]}, ["y"], constants), tmp_path)
    assert set(places.values()) == {"aipu"}


def test_model_without_layers_goes_to_the_aipu_as_far_as_it_can(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["r"], "relu"), node("Add", ["r", "x"], ["s"], "add"), node("CumSum", ["s", "one"], ["y"], "cumsum")]
    _, places = checked(model(nodes, {"x": [2, 3]}, ["y"], {"one": np.asarray(1, np.int64)}), tmp_path)
    assert places == {"relu": "aipu", "add": "aipu", "cumsum": "cpu"}


def test_quantized_model_is_left_as_it_is(tmp_path: Path) -> None:
    constants = {"s": np.asarray(0.1, np.float32), "z": np.asarray(3, np.int8), "w": np.ones((2, 3, 1, 1), np.int8)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "s"], ["wd"]),
        node("Conv", ["d", "wd"], ["c"], "inside"),
        node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
        node("DequantizeLinear", ["cq", "s", "z"], ["cd"]),
        node("Conv", ["cd", "wd2"], ["y"], "outside"),
        node("DequantizeLinear", ["w2", "s"], ["wd2"]),
    ]
    nodes.insert(0, nodes.pop())
    constants["w2"] = np.ones((1, 2, 1, 1), np.int8)
    clean, places = checked(model(nodes, {"x": [1, 3, 4, 4]}, ["y"], constants), tmp_path)
    assert sorted(n.op_type for n in clean.graph.node) == ["Conv"] * 2 + ["DequantizeLinear"] * 4 + ["QuantizeLinear"] * 2
    assert (places["inside"], places["outside"]) == ("aipu", "cpu"), "the second result is never quantized"
    assert json.loads((tmp_path / "support.json").read_bytes())["quantized_before"] is True
