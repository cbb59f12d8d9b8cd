"""check: what cannot be compiled is refused with a sentence that says what, where and how to mend it; nothing is written."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import model, save, small_net

from axforge.axcompiler.check import run as check
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.stages import CheckConfig, silent


def refusal(path: Path, config: CheckConfig | None = None) -> str:
    """The message with which check refuses the file."""
    out = path.parent / "out"
    out.mkdir(exist_ok=True)
    with pytest.raises(CompileError) as e:
        check({"model.onnx": path}, config or CheckConfig(), out, silent)
    assert not list(out.iterdir())
    return str(e.value)


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return path


def test_missing_file(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("data", [b"hello world, this is text\n" * 9, b"\x89PNG\r\n\x1a\n" + bytes(99), b"PK\x03\x04" + bytes(64)])
def test_no_onnx_file(tmp_path: Path, data: bytes) -> None:
    assert "this is not an ONNX file" in refusal(written(tmp_path, data))


def test_empty_file(tmp_path: Path) -> None:
    assert "the file is empty" in refusal(written(tmp_path, b""))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    data = small_net().SerializeToString()
    assert "truncated" in refusal(written(tmp_path, data[: max(2, int(len(data) * share))]))


def test_opset_too_old(tmp_path: Path) -> None:
    message = refusal(save(small_net(opset=8), tmp_path))
    assert "uses opset 8; supported are 9 to" in message
    assert "Export the model again" in message


def test_opset_too_new(tmp_path: Path) -> None:
    proto = small_net()
    proto.opset_import[0].version = 999
    assert "uses opset 999" in refusal(save(proto, tmp_path))


def test_ir_version_too_new(tmp_path: Path) -> None:
    proto = small_net()
    proto.ir_version = 99
    assert "IR version 99" in refusal(save(proto, tmp_path))


def test_dynamic_dimension_names_input_dimension_and_remedy(tmp_path: Path) -> None:
    message = refusal(save(small_net(batch="N", size="side"), tmp_path))
    assert "input 'x'" in message
    assert "dimension 2 ('side')" in message
    assert '"input_shapes": {"x": [1, 3, <side>, <side>]}' in message


def test_pinned_shape_that_contradicts_the_model(tmp_path: Path) -> None:
    path = save(small_net(), tmp_path)
    assert "dimension 2 is fixed to 16" in refusal(path, CheckConfig(input_shapes={"x": (1, 3, 32, 32)}))
    assert "4 dimensions" in refusal(path, CheckConfig(input_shapes={"x": (1, 3, 32)}))


def test_pinned_input_that_does_not_exist(tmp_path: Path) -> None:
    message = refusal(save(small_net(), tmp_path), CheckConfig(input_shapes={"xx": (1, 3, 16, 16)}))
    assert "an input 'xx'" in message
    assert "Did you mean 'x'?" in message


def test_end_node_that_does_not_exist(tmp_path: Path) -> None:
    assert "compile.check.end_nodes names 'nowhere'" in refusal(save(small_net(), tmp_path), CheckConfig(end_nodes=("nowhere",)))


def test_contradicting_shapes(tmp_path: Path) -> None:
    proto = model([helper.make_node("Conv", ["x", "w"], ["y"])], {"x": [1, 3, 8, 8]}, ["y"], {"w": np.ones((4, 3, 99, 99), np.float32)})
    proto.graph.node.append(helper.make_node("Add", ["x", "v"], ["z"]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((7, 5), np.float32), "v"))
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    assert "contradict each other" in refusal(save(proto, tmp_path))


def test_invalid_graph(tmp_path: Path) -> None:
    proto = model([helper.make_node("Relu", ["nowhere"], ["y"])], {"x": [1]}, ["y"])
    assert "not valid ONNX" in refusal(save(proto, tmp_path))


def external(tmp_path: Path, location: str, data: bytes | None) -> Path:
    proto = small_net()
    weight = proto.graph.initializer[1]
    raw = weight.raw_data
    onnx.external_data_helper.set_external_data(weight, location, 0, len(raw))
    weight.ClearField("raw_data")
    folder = tmp_path / "inside"
    folder.mkdir()
    if data is not None:
        (folder / location).write_bytes(raw if data == b"all" else data)
    return save(proto, folder)


def test_external_data_is_read(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin", b"all")
    check({"model.onnx": path}, CheckConfig(), tmp_path, silent)
    check({"model.onnx": save(small_net(), path.parent, "plain.onnx")}, CheckConfig(), path.parent, silent)
    assert (tmp_path / "checked.onnx").read_bytes() == (path.parent / "checked.onnx").read_bytes()


@pytest.mark.parametrize("place", ["function", "branch", "sparse"])
def test_external_data_is_found_wherever_it_hides(tmp_path: Path, place: str) -> None:
    w = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    w.external_data.add(key="location", value="../w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(16))
    constant = helper.make_node("Constant", [], ["c"], value=w)
    if place == "function":
        proto = model([helper.make_node("F", ["x"], ["y"], domain="mine")], {"x": [4]}, ["y"])
        body = [constant, helper.make_node("Add", ["a", "c"], ["b"])]
        proto.functions.append(helper.make_function("mine", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
        proto.opset_import.append(helper.make_opsetid("mine", 1))
    elif place == "branch":
        branch = helper.make_graph([constant], "g", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [4])])
        proto = model([helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)], {"x": []}, ["y"])
    else:
        indices = onnx.numpy_helper.from_array(np.arange(4), "i")
        node = helper.make_node("Constant", [], ["c"], sparse_value=helper.make_sparse_tensor(w, indices, [4]))
        proto = model([node, helper.make_node("Add", ["x", "c"], ["y"])], {"x": [4]}, ["y"])
    folder = tmp_path / "inside"
    folder.mkdir()
    assert "outside the model's folder" in refusal(save(proto, folder))


def test_external_data_missing_or_short(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    message = refusal(external(tmp_path / "a", "weights.bin", None))
    assert "'weights.bin' cannot be read" in message
    assert "weight 'w1'" in message
    (tmp_path / "b").mkdir()
    assert "should have at least" in refusal(external(tmp_path / "b", "weights.bin", b"short"))


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "link.bin"])
def test_external_data_must_not_leave_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(4096))
    path = external(tmp_path, location, None)
    (path.parent / "link.bin").symlink_to(tmp_path / "weights.bin")
    assert "outside the model's folder" in refusal(path)


def test_an_operator_that_nobody_has_is_named(tmp_path: Path) -> None:
    proto = small_net()
    proto.graph.node.append(helper.make_node("MyOp", [proto.graph.output[0].name], ["z"], name="mine", domain="com.acme"))
    proto.opset_import.append(helper.make_opsetid("com.acme", 1))
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    message = refusal(save(proto, tmp_path))
    assert "com.acme.MyOp" in message
    assert "Export the model" in message


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin"])
def test_a_pipe_is_no_model_and_no_data(tmp_path: Path, name: str) -> None:
    """Reading one would wait for a writer that never comes."""
    path = external(tmp_path, "weights.bin", b"all")
    (path.parent / name).unlink()
    os.mkfifo(path.parent / name)
    assert "not a regular file" in refusal(path)
