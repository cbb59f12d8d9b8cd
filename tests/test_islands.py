"""Islands may come from anywhere: they read no files, and their results have the shapes that the graph's memory was planned for."""

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from axforge.axcompiler import islands
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.external import refers_outside
from axforge.axcompiler.ir import Graph, Island, Quant, Tensor
from axforge.axcompiler.onnx_graph.tensors import tensors
from axforge.axcompiler.reference import Reference

COUNT = 1024  # a weight this long is read when it is used, not while onnxruntime simplifies the model


def with_file(location: str, place: str) -> bytes:
    """x + w, where w lies in a file: as an initializer, a Constant, or an initializer of a branch."""
    w = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[COUNT], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", str(4 * COUNT))):
        w.external_data.add(key=key, value=value)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [COUNT]) for n in "xy")
    add = helper.make_node("Add", ["x", "w"], ["y"])
    if place == "initializer":
        graph = helper.make_graph([add], "g", [x], [y], [w])
    elif place == "constant":
        graph = helper.make_graph([helper.make_node("Constant", [], ["w"], value=w), add], "g", [x], [y])
    else:
        branch = helper.make_graph([add], "branch", [], [y], [w])
        condition = helper.make_tensor("c", TensorProto.BOOL, [], [True])
        node = helper.make_node("If", ["c"], ["out"], then_branch=branch, else_branch=branch)
        graph = helper.make_graph([node], "g", [x], [helper.make_tensor_value_info("out", TensorProto.FLOAT, [COUNT])], [condition])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("place", ["initializer", "constant", "branch"])
@pytest.mark.parametrize("location", ["secret.bin", "../here/secret.bin", "{absolute}"])
def test_an_island_cannot_read_a_file(place, location, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "secret.bin").write_bytes(np.ones(COUNT, np.float32).tobytes())
    with pytest.raises(AxforgeError, match="refers to another file"):
        islands.session(with_file(location.format(absolute=here / "secret.bin"), place))


@pytest.mark.parametrize("location", ["secret.bin", "{absolute}"])
def test_the_installed_onnxruntime_refuses_files_too(location, tmp_path, monkeypatch):
    """A second lock: should a model pass the first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(np.ones(COUNT, np.float32).tobytes())
    monkeypatch.setattr(islands, "refers_outside", lambda model: False)
    with pytest.raises(AxforgeError, match="onnxruntime cannot run"):
        islands.session(with_file(location.format(absolute=tmp_path / "secret.bin"), "initializer"))


@pytest.mark.parametrize("model", [b"\x18\0\0\0ORTM" + bytes(64), b"\x3a\x05\x0a", b"\x80", b"\x3b"])
def test_what_is_no_protobuf_message_is_no_island(model):
    with pytest.raises(AxforgeError, match="is damaged"):
        islands.session(model)


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes_are_a_verdict_or_a_value_error(noise, at, byte):
    damaged = bytearray(with_file("secret.bin", "branch"))
    damaged[at % len(damaged)] = byte
    for data in (noise, bytes(damaged)):
        try:
            seen = refers_outside(data)
        except ValueError:
            continue
        try:
            model = onnx.ModelProto.FromString(data)
        except DecodeError:
            continue
        assert seen or not any(t.data_location or t.external_data for t in tensors(model))


@pytest.mark.parametrize("shape,dtype", [((1, 4), "float32"), ((3,), "float32"), ((), "float32"), ((4,), "int32")])
@pytest.mark.parametrize("quant", [None, Quant(0.5, 0)])
def test_a_result_of_another_shape_or_type_is_an_error(shape, dtype, quant):
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    free = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    model = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [free], [made]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    graph = Graph(
        name="g",
        tensors={"x": Tensor((4,), "float32"), "y": Tensor(shape, "int8", quant) if quant else Tensor(shape, dtype)},
        ops=(Island(name="i", inputs=("x",), outputs=("y",), island="m"),),
        inputs=("x",),
        outputs=("y",),
        islands={"m": model.SerializeToString()},
    )
    feeds = {"x": np.ones(4, np.float32)}
    if shape == (4,) and quant:
        assert Reference(graph).run(feeds)["y"].shape == (4,)
        return
    with pytest.raises(AxforgeError, match="the compiled model expects"):
        Reference(graph).run(feeds)
