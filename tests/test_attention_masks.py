"""Finite attention masks leave the ranges and get the weight 0, however they are spelled."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from axforge.axcompiler import api

TOKENS = 16


def attention(spelling: str, mask: float) -> onnx.ModelProto:
    """Self-attention of one head over `x` [1, 16, 32], whose positions `keep` [1, 1, 16] say which tokens count."""
    rng = np.random.default_rng(7)
    weights = {n: (rng.standard_normal((32, 32)) / 5).astype(np.float32) for n in ("wq", "wk", "wv", "wo")}
    constants = weights | {"one": np.float32(1), "lowest": np.float32(mask)}
    nodes = [helper.make_node("MatMul", ["x", f"w{n}"], [n], f"mm_{n}") for n in "qkv"]
    nodes += [helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]), helper.make_node("MatMul", ["q", "kt"], ["s"])]
    if spelling == "computed":
        nodes += [helper.make_node("Sub", ["one", "keep"], ["drop"]), helper.make_node("Mul", ["drop", "lowest"], ["m"])]
    elif spelling == "constant":
        constants["m"] = np.triu(np.full((1, TOKENS, TOKENS), mask, np.float32), 1)
    else:
        nodes += [helper.make_node("Equal", ["keep", "one"], ["b"]), helper.make_node("Where", ["b", "zero", "lowest"], ["m"])]
        constants["zero"] = np.float32(0)
    nodes += [helper.make_node("Add", ["s", "m"], ["sm"]), helper.make_node("Softmax", ["sm"], ["p"], axis=-1)]
    nodes += [helper.make_node("MatMul", ["p", "v"], ["c"]), helper.make_node("MatMul", ["c", "wo"], ["y"])]
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, TOKENS, 32]), ("keep", [1, 1, TOKENS]))]
    given = given[:1] if spelling == "constant" else given
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, TOKENS, 32])]
    graph = helper.make_graph(nodes, "g", given, result, [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def samples(count: int, seed: int) -> list[dict[str, NDArray[np.float32]]]:
    """Random tokens, the last of them padding."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, TOKENS, count)
    keep = [(np.arange(TOKENS) < n).astype(np.float32).reshape(1, 1, -1) for n in lengths]
    return [{"x": rng.standard_normal((1, TOKENS, 32)).astype(np.float32), "keep": k} for k in keep]


@pytest.mark.parametrize("spelling", ["computed", "where"])
@pytest.mark.parametrize("mask", [float(np.finfo(np.float32).min), -65504.0, -1e4])
def test_masked_positions_get_no_weight(tmp_path: Path, spelling: str, mask: float) -> None:
    import onnxruntime as ort

    proto = attention(spelling, mask)
    compiled = api.compile(proto, samples(16, 1), workdir=tmp_path)
    session = ort.InferenceSession(proto.SerializeToString())
    for feeds in samples(4, 2):
        wanted, got = session.run(None, feeds)[0], compiled.run(feeds)["y"]
        assert 10 * np.log10((wanted**2).mean() / ((wanted - got) ** 2).mean()) > 18
        other = dict(feeds, x=np.where(feeds["keep"].reshape(1, -1, 1) > 0, feeds["x"], -feeds["x"]))
        kept = feeds["keep"].reshape(-1) > 0
        np.testing.assert_array_equal(compiled.run(other)["y"][:, kept], got[:, kept])  # padding has no effect at all


@pytest.mark.parametrize("mask", [float(np.finfo(np.float32).min), -1e4])
def test_a_constant_causal_mask_hides_what_comes_later(tmp_path: Path, mask: float) -> None:
    import onnxruntime as ort

    proto = attention("constant", mask)
    given = [{"x": feeds["x"]} for feeds in samples(16, 1)]
    compiled = api.compile(proto, given, workdir=tmp_path)
    feeds = {"x": samples(1, 2)[0]["x"]}
    wanted, got = ort.InferenceSession(proto.SerializeToString()).run(None, feeds)[0], compiled.run(feeds)["y"]
    assert 10 * np.log10((wanted**2).mean() / ((wanted - got) ** 2).mean()) > 18
    later = feeds["x"].copy()
    later[:, 8:] *= -1
    np.testing.assert_array_equal(compiled.run({"x": later})["y"][:, :8], got[:, :8])
