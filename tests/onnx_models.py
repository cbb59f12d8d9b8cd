"""Small ONNX models that several test files build."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]


def model(
    nodes: Sequence[NodeProto],
    inputs: dict[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    constants: dict[str, Array] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model with float32 inputs of these shapes; output shapes are left to inference."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(v, n) for n, v in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def small_net(*, batch: int | str = 1, size: int | str = 16, opset: int = 17, doc: str = "") -> onnx.ModelProto:
    """normalise -> conv, BN, Relu -> conv, SiLU -> max pool, concat with itself -> global pool -> Gemm -> Softmax."""
    rng = np.random.default_rng(1)
    c: dict[str, Array] = {
        "mean": np.full((1, 3, 1, 1), 0.5, np.float32),
        "w1": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "gamma": rng.uniform(0.5, 2, 8).astype(np.float32),
        "beta": rng.normal(0, 0.2, 8).astype(np.float32),
        "mu": rng.normal(0, 0.2, 8).astype(np.float32),
        "var": rng.uniform(0.5, 2, 8).astype(np.float32),
        "w2": rng.normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32),
        "b2": rng.normal(0, 0.2, 8).astype(np.float32),
        "w3": rng.normal(0, 0.4, (16, 5)).astype(np.float32),
        "b3": rng.normal(0, 0.2, 5).astype(np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Sub", ["x", "mean"], ["centred"], "sub"),
        node("Conv", ["centred", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "gamma", "beta", "mu", "var"], ["n1"], "bn"),
        node("Relu", ["n1"], ["r1"], "relu"),
        node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Sigmoid", ["c2"], ["s2"], "sigmoid"),
        node("Mul", ["c2", "s2"], ["a2"], "silu"),
        node("MaxPool", ["a2"], ["p2"], "pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Concat", ["a2", "p2"], ["cat"], "concat", axis=1),
        node("GlobalAveragePool", ["cat"], ["g"], "gap"),
        node("Flatten", ["g"], ["f"], "flatten"),
        node("Identity", ["f"], ["f2"], "copy"),
        node("Gemm", ["f2", "w3", "b3"], ["logits"], "fc"),
        node("Softmax", ["logits"], ["y"], "softmax", axis=1),
    ]
    out = model(nodes, {"x": [batch, 3, size, size]}, ["y"], c, opset)
    out.doc_string = doc
    return out


def save(proto: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Write the model and give its path."""
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def run(proto: onnx.ModelProto | Path, feeds: dict[str, Array]) -> dict[str, Array]:
    """All outputs, by onnxruntime."""
    data = proto.read_bytes() if isinstance(proto, Path) else proto.SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def image_samples(n: int, shape: Sequence[int] = (1, 3, 16, 16), name: str = "x") -> list[dict[str, Array]]:
    """Random images in 0..1, smooth in that each has a brightness of its own."""
    rng = np.random.default_rng(2)
    return [{name: np.clip(rng.random(shape) * rng.uniform(0.3, 1.2), 0, 1).astype(np.float32)} for _ in range(n)]
