"""Models that other tools quantized become int8 with the codes that onnxruntime gives on the same file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from qdq_models import Model, kinds, plain_run

from axforge.axcompiler import ir, optimize
from axforge.axcompiler.check.stage import run
from axforge.axcompiler.reference import Reference
from axforge.axcompiler.stages import CheckConfig, silent

MICROSOFT = "com.microsoft"
SHAPE = (1, 4, 6, 6)
X = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)


def checked(model: onnx.ModelProto, folder: Path) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model after the check stage, and its report."""
    onnx.save(model, folder / "model.onnx")
    run({"model.onnx": folder / "model.onnx"}, CheckConfig(), folder, silent)
    return onnx.load(folder / "checked.onnx"), json.loads((folder / "support.json").read_bytes())


def steps_apart(model: onnx.ModelProto, feeds: dict[str, np.ndarray], folder: Path) -> tuple[ir.Graph, np.ndarray]:
    """The fused graph, and how many steps of its scale each output number is from onnxruntime's."""
    graph = optimize.optimize(checked(model, folder)[0])
    differences = []
    for (name, got), want in zip(Reference(graph).run(feeds).items(), plain_run(model, feeds), strict=True):
        quant = graph.tensors[name].quant
        assert got.shape == want.shape
        differences.append(np.abs(got.astype(np.float64) - want.astype(np.float64)).reshape(-1) / (quant.scale if quant else 1))
    return graph, np.concatenate(differences)


class Codes(Model):
    """A model in operators that work on codes, int8 or uint8. zero: the zero point of every activation, as int8."""

    def __init__(self, dtype: type[np.number[Any]], opset: int = 17, zero: int = 3) -> None:
        super().__init__(opset)
        self.dtype, self.shift = dtype, 128 if dtype is np.uint8 else 0
        self.z = self.constant(zero + self.shift, dtype)
        self.scales = iter(np.linspace(0.02, 0.09, 12))

    def quantized(self, x: str) -> tuple[str, str, str]:
        """Codes, scale and zero point."""
        s = self.constant(next(self.scales))
        return self.node("QuantizeLinear", x, s, self.z), s, self.z

    def finished(self, codes: str, s: str, z: str | None = None) -> onnx.ModelProto:
        """The model that gives `codes` as real numbers."""
        return self.with_domain(self.node("DequantizeLinear", codes, s, z or self.z, out="y"))

    def with_domain(self, *outputs: str) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, infos, self.initializers)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def weight(seed: int, *shape: int) -> np.ndarray:
    """Small enough that onnxruntime's kernels without VNNI do not saturate."""
    return np.random.default_rng(seed).integers(-60, 61, shape)


def conv(m: Codes, **attributes: Any) -> tuple[str, str]:
    s = m.constant(0.1)
    w = m.constant(weight(1, 5, 4, 3, 3), np.int8)
    bias = m.constant([300, -20, 0, 77, 5], np.int32)
    scales = m.constant(np.linspace(0.01, 0.02, 5))
    zeros = m.constant(np.zeros(5), np.int8)
    x = m.quantized(m.input("x", SHAPE))
    return m.node("QLinearConv", *x, w, scales, zeros, s, m.z, bias, pads=[1, 1, 1, 1], **attributes), s


def conv_channels_last(m: Codes) -> tuple[str, str]:
    s = m.constant(0.1)
    w = m.constant(weight(1, 5, 4, 3, 3), np.int8)
    x = m.quantized(m.node("Transpose", m.input("x", SHAPE), perm=[0, 2, 3, 1]))
    y = m.node("QLinearConv", *x, w, m.constant(0.01), m.constant(0, np.int8), s, m.z, domain=MICROSOFT, channels_last=1)
    return y, s


def matmul(m: Codes) -> tuple[str, str]:
    s = m.constant(0.08)
    w, scales, zeros = m.constant(weight(2, 6, 7), np.int8), m.constant(np.linspace(0.01, 0.02, 7)), m.constant(np.zeros(7), np.int8)
    return m.node("QLinearMatMul", *m.quantized(m.input("x", SHAPE)), w, scales, zeros, s, m.z), s


def matmul_of_two(m: Codes) -> tuple[str, str]:
    s = m.constant(0.2)
    return m.node("QLinearMatMul", *m.quantized(m.input("x", SHAPE)), *m.quantized(m.input("x2", SHAPE)), s, m.z), s


def gemm(m: Codes) -> tuple[str, str]:
    s = m.constant(0.3)
    x = m.quantized(m.node("Flatten", m.input("x", SHAPE)))
    w = (m.constant(weight(4, 9, 144), np.int8), m.constant(0.01), m.constant(0, np.int8))
    return m.node("QGemm", *x, *w, m.constant(np.arange(9) * 50, np.int32), s, m.z, domain=MICROSOFT, transB=1, alpha=0.5), s


def two(op_type: str) -> Any:
    def build(m: Codes) -> tuple[str, str]:
        s = m.constant(0.07)
        operands = [*m.quantized(m.input("x", SHAPE)), *m.quantized(m.input("x2", SHAPE))]
        return m.node(op_type, *operands, s, m.z, domain=MICROSOFT), s

    return build


def with_constant(op_type: str) -> Any:
    def build(m: Codes) -> tuple[str, str]:
        s = m.constant(0.07)
        codes = m.constant(weight(5, 4, 1, 1) + m.shift, m.dtype)
        x = m.quantized(m.input("x", SHAPE))
        return m.node(op_type, *x, codes, m.constant(0.031), m.constant(m.shift - 7, m.dtype), s, m.z, domain=MICROSOFT), s

    return build


def one(op_type: str, **attributes: Any) -> Any:
    def build(m: Codes) -> tuple[str, str]:
        s = m.constant(0.011)
        return m.node(op_type, *m.quantized(m.input("x", SHAPE)), s, m.z, domain=MICROSOFT, **attributes), s

    return build


def concat(m: Codes) -> tuple[str, str]:
    s = m.constant(0.06)
    operands = [*m.quantized(m.input("x", SHAPE)), *m.quantized(m.input("x2", SHAPE))]
    return m.node("QLinearConcat", s, m.z, *operands, domain=MICROSOFT, axis=1), s


OPERATORS = {
    "conv": (conv, "Conv"),
    "conv channels last": (conv_channels_last, "Conv"),
    "matmul": (matmul, "FullyConnected"),
    "matmul of two": (matmul_of_two, "MatMul"),
    "gemm": (gemm, "FullyConnected"),
    "add": (two("QLinearAdd"), "Add"),
    "mul": (two("QLinearMul"), "Mul"),
    "add a constant": (with_constant("QLinearAdd"), "Add"),
    "mul by a constant": (with_constant("QLinearMul"), "Mul"),
    "sigmoid": (one("QLinearSigmoid"), "Table"),
    "leaky relu": (one("QLinearLeakyRelu", alpha=0.2), "Table"),
    "average pool": (one("QLinearAveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), "AveragePool"),
    "average pool of all": (one("QLinearAveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1), "AveragePool"),
    "global average pool": (one("QLinearGlobalAveragePool"), "AveragePool"),
    "concat": (concat, "Concat"),
    "softmax": (one("QLinearSoftmax", axis=-1, opset=13), "Softmax"),
    "softmax of old": (one("QLinearSoftmax", axis=1, opset=11), "Softmax"),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.int8], ids=["uint8", "int8"])
@pytest.mark.parametrize("name", OPERATORS)
def test_a_quantized_operator_gives_onnxruntimes_codes(name: str, dtype: Any, tmp_path: Path) -> None:
    build, kind = OPERATORS[name]
    m = Codes(dtype)
    model = m.finished(*build(m))
    feeds = {given.name: X if given.name == "x" else X[:, ::-1].copy() for given in model.graph.input}
    graph, apart = steps_apart(model, feeds, tmp_path)
    assert kind in kinds(graph)
    assert "Island" not in kinds(graph)
    assert apart.max() < 1.01
    # only ties may be rounded otherwise; onnxruntime's softmax divides integers, and is not rounded to the nearest
    assert np.mean(apart > 0.5) <= (0.15 if "softmax" in name else 0.01)


def test_products_are_exact(tmp_path: Path) -> None:
    """Scales that are powers of two leave nothing to rounding but ties, which are even on both sides."""
    m = Codes(np.uint8)
    s = m.constant(2.0**-3)
    x = m.quantized(m.input("x", SHAPE))
    m.initializers[-1].CopyFrom(onnx.numpy_helper.from_array(np.asarray(2.0**-5, np.float32), x[1]))
    w = (m.constant(weight(1, 5, 4, 3, 3), np.int8), m.constant(2.0**-6), m.constant(0, np.int8))
    _, apart = steps_apart(m.finished(m.node("QLinearConv", *x, *w, s, m.z), s), {"x": X}, tmp_path)
    assert apart.max() == 0


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("form", ["conv", "transposed conv", "gemm", "matmul"])
def test_an_asymmetric_weight_runs_on_the_aipu_with_the_same_products(form: str, groups: int, tmp_path: Path) -> None:
    if groups > 1 and "conv" not in form:
        pytest.skip("it has no groups")
    m = Codes(np.uint8)
    x = m.qdq(m.input("x", SHAPE), 0.03, 3)
    shape = {"conv": (8, 4 // groups, 3, 3), "transposed conv": (4, 8 // groups, 3, 3), "gemm": (5, 144), "matmul": (6, 5)}[form]
    codes = np.random.default_rng(9).integers(0, 256, shape)
    w = m.node("DequantizeLinear", m.constant(codes, np.uint8), m.constant(0.004), m.constant(0, np.uint8))
    if form == "gemm":
        x = m.qdq(m.node("Flatten", x), 0.03, 3)
        y = m.node("Gemm", x, w, transB=1)
    else:
        op = {"conv": "Conv", "transposed conv": "ConvTranspose", "matmul": "MatMul"}[form]
        y = m.node(op, x, w, **({"group": groups} if "conv" in form else {}))
    graph, apart = steps_apart(m.with_domain(m.qdq(y, 0.2, -5, out="y")), {"x": X}, tmp_path)
    assert "Island" not in kinds(graph)
    assert apart.max() < 1.01
    assert np.mean(apart > 0.5) <= 0.01


def test_codes_that_go_in_and_out_are_quantized_inside(tmp_path: Path) -> None:
    m = Codes(np.uint8)
    s = m.constant(0.1)
    codes = m.input("x", SHAPE, TensorProto.UINT8)
    w = (m.constant(weight(1, 5, 4, 3, 3), np.int8), m.constant(0.01), m.constant(0, np.int8))
    m.node("QLinearConv", codes, m.constant(0.02), m.constant(130, np.uint8), *w, s, m.constant(120, np.uint8), out="y")
    model = m.with_domain("y")
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    feeds = {"x": np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)}
    graph = optimize.optimize(checked(model, tmp_path)[0])
    got, want = Reference(graph).run(feeds)["y"], plain_run(model, feeds)[0]
    assert "Conv" in kinds(graph)
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - want.astype(int)).max() <= 1
    assert np.mean(got != want) <= 0.01


def test_copies_of_codes_run_on_the_aipu(tmp_path: Path) -> None:
    m = Codes(np.uint8)
    codes, s, z = m.quantized(m.input("x", SHAPE))
    sizes = m.constant([1, 4, 12, 12], np.int64)
    big = m.node("Resize", codes, "", "", sizes, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    padded = m.node("Pad", big, m.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), m.constant(131, np.uint8))
    half = m.node("Split", padded, m.constant([1, 3], np.int64), axis=1, n=2)
    rest = m.nodes[-1].output[1]
    m.node("DequantizeLinear", half, s, z, out="a")
    m.node("DequantizeLinear", rest, s, z, out="b")
    graph, apart = steps_apart(m.with_domain("a", "b"), {"x": X}, tmp_path)
    assert "Island" not in kinds(graph)
    assert apart.max() == 0


def test_an_operator_that_q_and_dq_cannot_express_stays_and_is_computed(tmp_path: Path) -> None:
    m = Codes(np.uint8)
    s = m.constant(0.1)
    rows = (m.constant(np.full(6, 0.02)), m.constant(np.full(6, 131), np.uint8))
    x = m.node("QuantizeLinear", m.input("x", (6, 6)), m.constant(0.02), m.constant(131, np.uint8))
    w = (m.constant(weight(2, 6, 7), np.int8), m.constant(0.01), m.constant(0, np.int8))
    model = m.finished(m.node("QLinearMatMul", x, *rows, *w, s, m.z), s)
    _, report = checked(model, tmp_path)
    assert {n["place"] for n in report["nodes"] if n["op_type"] == "QLinearMatMul"} == {"cpu"}


# ---------------------------------------------------------------- whole networks


def network() -> onnx.ModelProto:
    """A float network with what CNNs are made of."""
    rng = np.random.default_rng(0)
    m = Model(13)

    def w(*shape: int) -> str:
        return m.constant(rng.normal(size=shape) * 1.5 / np.sqrt(np.prod(shape[1:])))

    x = m.input("x", (1, 3, 16, 16))
    first = m.node("MaxPool", m.node("Relu", m.node("Conv", x, w(8, 3, 3, 3), w(8), pads=[1] * 4)), kernel_shape=[2, 2], strides=[2, 2])
    inner = m.node("Conv", first, w(8, 1, 3, 3), w(8), pads=[1] * 4, group=8)
    total = m.node("Add", m.node("Mul", inner, m.node("Sigmoid", inner)), first)
    joined = m.node("Concat", m.node("LeakyRelu", m.node("Conv", total, w(8, 8, 1, 1)), alpha=0.1), total, axis=1)
    pooled = m.node("AveragePool", joined, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    flat = m.node("Flatten", m.node("GlobalAveragePool", pooled))
    hidden = m.node("Gemm", flat, w(16, 16), w(16), transB=1)
    return m.build(m.node("Add", m.node("MatMul", hidden, w(16, 10)), w(10), out="y"))


class Pictures(CalibrationDataReader):
    def __init__(self) -> None:
        self._left: Iterator[dict[str, np.ndarray]] = iter(pictures(8))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


def pictures(count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(size=(1, 3, 16, 16)).astype(np.float32)} for _ in range(count)]


FORMS = [
    (QuantFormat.QOperator, QuantType.QUInt8, QuantType.QInt8, True),
    (QuantFormat.QOperator, QuantType.QInt8, QuantType.QInt8, False),
    (QuantFormat.QOperator, QuantType.QUInt8, QuantType.QUInt8, False),
    (QuantFormat.QDQ, QuantType.QUInt8, QuantType.QInt8, True),
    (QuantFormat.QDQ, QuantType.QInt8, QuantType.QInt8, False),
    (QuantFormat.QDQ, QuantType.QUInt8, QuantType.QUInt8, False),
]


@pytest.mark.parametrize(("form", "activations", "weights", "per_channel"), FORMS)
def test_what_onnxruntime_quantized(form: Any, activations: Any, weights: Any, per_channel: bool, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "float.onnx")
    settings = {"quant_format": form, "activation_type": activations, "weight_type": weights, "per_channel": per_channel}
    # reduce_range: without VNNI onnxruntime's sums of uint8 times int8 saturate at 16 bits
    quantize_static(tmp_path / "float.onnx", tmp_path / "q.onnx", Pictures(), reduce_range=weights == QuantType.QInt8, **settings)
    model = onnx.load(tmp_path / "q.onnx")
    assert "Island" not in kinds(optimize.optimize(checked(model, tmp_path)[0]))
    _, apart = steps_apart(with_all_activations(model), pictures(1)[0], tmp_path)
    assert apart.size > 5000
    assert apart.max() < 1.01 + len(model.graph.node) / 50, "a tie that is rounded otherwise goes on through the layers"
    assert np.mean(apart > 0.5) <= 0.02


def with_all_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every activation as an output: codes where it has operators on codes, real numbers where it has Q and DQ."""
    constants = {t.name for t in model.graph.initializer}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    inferred = {v.name: v for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    known = {o.name for o in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] not in constants and node.output[0] not in known:
            result.graph.output.append(inferred[node.output[0]])
        if node.op_type.startswith("QLinear"):
            real = f"{node.output[0]}_shown"
            at = 0 if node.op_type == "QLinearConcat" else len(node.input) - 2 if node.op_type != "QLinearConv" else 6
            result.graph.node.append(helper.make_node("DequantizeLinear", [node.output[0], *node.input[at : at + 2]], [real]))
            result.graph.output.append(helper.make_tensor_value_info(real, TensorProto.FLOAT, None))
    return result


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weights", [QuantType.QUInt8, QuantType.QInt8])
def test_dynamic_quantization_is_undone(weights: Any, per_channel: bool, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "float.onnx")
    layers = ["Conv", "MatMul", "Gemm"]
    quantize_dynamic(
        tmp_path / "float.onnx", tmp_path / "q.onnx", weight_type=weights, per_channel=per_channel, op_types_to_quantize=layers
    )
    model, report = checked(onnx.load(tmp_path / "q.onnx"), tmp_path)
    assert report["quantized_before"] is False
    assert {n["place"] for n in report["nodes"]} <= {"aipu", "folded"}
    assert not {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"} & {n.op_type for n in model.graph.node}
    for feeds in pictures(3):
        got, want = (plain_run(m, feeds)[0] for m in (model, onnx.load(tmp_path / "float.onnx")))
        assert np.abs(got - want).max() < 0.03 * np.abs(want).max(), "the weights are those that were quantized, nearly the float ones"


def test_the_joined_operators_of_dynamic_quantization_are_undone(tmp_path: Path) -> None:
    m = Codes(np.uint8)
    x = m.input("x", (1, 6))
    codes, scales, zeros = m.constant(weight(2, 6, 7), np.int8), m.constant(np.full(7, 0.01)), m.constant(np.zeros(7), np.int8)
    bias = m.constant(np.arange(7) / 10)
    m.node("DynamicQuantizeMatMul", x, codes, scales, zeros, bias, domain=MICROSOFT, out="a")
    quantized = m.node("DynamicQuantizeLinear", x, n=3)
    scale, zero = m.nodes[-1].output[1:]
    m.node("MatMulIntegerToFloat", quantized, codes, scale, scales, zero, zeros, bias, domain=MICROSOFT, out="b")
    model = m.with_domain("a", "b")
    clean, report = checked(model, tmp_path)
    feeds = {"x": np.linspace(-1, 1, 6, dtype=np.float32)[None]}
    want = feeds["x"] @ (weight(2, 6, 7) * 0.01) + np.arange(7) / 10
    for got, close in zip(plain_run(clean, feeds), plain_run(model, feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got, close, atol=0.05)
    assert {n["place"] for n in report["nodes"]} <= {"aipu", "folded"}


def test_a_scale_made_of_very_many_products_is_read(tmp_path: Path) -> None:
    m = Codes(np.uint8)
    quantized = m.node("DynamicQuantizeLinear", m.input("x", (1, 6)), n=3)
    scale, zero = m.nodes[-1].output[1:]
    for _ in range(3000):
        scale = m.node("Mul", scale, m.constant(1.0))
    product = m.node("Cast", m.node("MatMulInteger", quantized, m.constant(weight(2, 6, 7), np.int8), zero), to=TensorProto.FLOAT)
    m.node("Mul", product, scale, out="y")
    clean, _ = checked(m.with_domain("y"), tmp_path)
    assert "MatMulInteger" not in {n.op_type for n in clean.graph.node}


def test_an_integer_product_with_a_fixed_scale_is_quantized(tmp_path: Path) -> None:
    m = Codes(np.uint8)
    x, _, z = m.quantized(m.input("x", (4, 6)))
    product = m.node("MatMulInteger", x, m.constant(weight(2, 6, 7), np.int8), z)
    real = m.node("Mul", m.node("Cast", product, to=TensorProto.FLOAT), m.constant(np.float32(0.02) * np.linspace(0.01, 0.02, 7)))
    total = m.node("Add", real, m.constant(np.arange(7) / 10))
    graph, apart = steps_apart(m.with_domain(m.qdq(total, 0.1, 2, out="y")), {"x": X[0, 0][:4]}, tmp_path)
    assert kinds(graph) == ["FullyConnected"]
    assert apart.max() < 1.01


# ---------------------------------------------------------------- what other tools leave between Q and DQ


def test_a_batch_normalization_moves_into_the_scales_of_a_trained_weight(tmp_path: Path) -> None:
    m = Codes(np.int8)
    x = m.qdq(m.input("x", SHAPE), 0.03, 3)
    y = m.node("Conv", x, m.weight(weight(1, 5, 4, 3, 3), np.full(5, 0.01)), m.bias(np.arange(5) * 100, np.full(5, 3e-4)))
    parameters = [m.constant(v) for v in ([1.5, -0.5, 2, 1, 0.1], np.arange(5), np.linspace(-1, 1, 5), np.linspace(0.5, 2, 5))]
    y = m.node("Relu", m.node("BatchNormalization", y, *parameters))
    graph, apart = steps_apart(m.with_domain(m.qdq(y, 0.05, -100, out="y")), {"x": X}, tmp_path)
    assert kinds(graph) == ["Conv"]
    assert np.array_equal(np.abs(graph.constants[graph.ops[0].weight]), np.abs(weight(1, 5, 4, 3, 3))), "trained codes stay"
    assert apart.max() < 1.01


def test_a_linear_layer_as_pytorch_writes_it(tmp_path: Path) -> None:
    """The weight is transposed after it was dequantized, the bias is added in float, and Q and DQ are before the reshape only."""
    m = Codes(np.int8)
    x = m.qdq(m.input("x", (2, 3, 6)), 0.03, 3)
    w = m.node("Transpose", m.weight(weight(2, 7, 6), np.linspace(0.01, 0.02, 7)), perm=[1, 0])
    y = m.node("Relu", m.node("Add", m.node("MatMul", x, w), m.constant(np.arange(7) / 10)))
    last = m.node("MatMul", m.node("Reshape", m.qdq(y, 0.05, -20), m.constant([6, 7], np.int64)), m.weight(weight(3, 7, 4), 0.01))
    graph, apart = steps_apart(m.with_domain(m.qdq(last, 0.05, 0, out="y")), {"x": X[0, :2, :3]}, tmp_path)
    assert "Island" not in kinds(graph)
    assert kinds(graph).count("FullyConnected") == 2
    assert apart.max() < 1.01


def test_pooling_before_the_only_quantizer(tmp_path: Path) -> None:
    m = Codes(np.int8)
    x = m.qdq(m.input("x", SHAPE), 0.03, 3)
    y = m.node("Conv", x, m.weight(weight(1, 5, 4, 3, 3), 0.01))
    y = m.node(
        "Concat",
        m.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]),
        m.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2]),
        axis=1,
    )
    graph, apart = steps_apart(m.with_domain(m.qdq(y, 0.05, 0, out="y")), {"x": X}, tmp_path)
    assert "Island" not in kinds(graph)
    assert apart.max() < 1.01


def test_old_opsets_with_quantized_operators_are_converted(tmp_path: Path) -> None:
    m = Codes(np.uint8, opset=11)
    model = m.finished(*conv(m))
    graph, apart = steps_apart(model, {"x": X}, tmp_path)
    assert kinds(graph) == ["Conv"]
    assert apart.max() < 1.01


def test_microsofts_own_quantize_linear_is_read(tmp_path: Path) -> None:
    m = Codes(np.uint8)
    x = m.qdq(m.input("x", SHAPE), 0.03, 3)
    model = m.with_domain(m.qdq(m.node("Conv", x, m.weight(weight(1, 5, 4, 3, 3), 0.01)), 0.1, 0, out="y"))
    for node in model.graph.node:
        node.domain = MICROSOFT if "QuantizeLinear" in node.op_type or "DequantizeLinear" in node.op_type else ""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    graph, apart = steps_apart(model, {"x": X}, tmp_path)
    assert session.run(None, {"x": X})[0].shape == (1, 5, 4, 4)
    assert kinds(graph) == ["Conv"]
    assert apart.max() < 1.01


def test_sixteen_bits_run_on_the_cpu_and_the_report_says_why(tmp_path: Path) -> None:
    m = Codes(np.uint8)
    s, z = m.constant(1e-4), m.constant(300, np.int16)
    x = m.node("DequantizeLinear", m.node("QuantizeLinear", m.input("x", SHAPE), s, z, domain=MICROSOFT), s, z, domain=MICROSOFT)
    m.node("Conv", x, m.weight(weight(1, 5, 4, 3, 3), 0.01), out="y")
    model = m.with_domain("y")
    clean, report = checked(model, tmp_path)
    reasons = {n["op_type"]: n["reason"] for n in report["nodes"]}
    assert "quantized to 16 bits, and the AIPU computes with 8" in reasons["Conv"]
    np.testing.assert_allclose(plain_run(clean, {"x": X})[0], plain_run(model, {"x": X})[0], atol=1e-5)
