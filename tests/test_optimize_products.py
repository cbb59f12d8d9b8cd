"""A lowered Conv is onnxruntime's QLinearConv bit for bit, near ties included; other products are within a quantum of it."""

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from qdq_models import Model, assert_within, compiled, kinds

from axforge.axcompiler.reference import Reference


def qlinear_conv(x, w, bias, sx, zx, sw, sy, zy, attributes):
    """Codes that onnxruntime's QLinearConv gives for uint8 activations (int8 + 128)."""
    names = ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy", "b"]
    values = {
        "sx": np.float32(sx), "zx": np.uint8(zx + 128), "w": w, "sw": sw, "zw": np.zeros(len(sw), np.int8),
        "sy": np.float32(sy), "zy": np.uint8(zy + 128), "b": bias,
    }  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", names, ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    (y,) = ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": (x.astype(np.int16) + 128).astype(np.uint8)})
    return (y.astype(np.int16) - 128).astype(np.int8)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_conv_equals_qlinearconv(seed):
    rng = np.random.default_rng(seed)
    group = int(rng.choice([1, 2, 3]))
    cin, cout, k = group * int(rng.integers(1, 4)), group * int(rng.integers(1, 5)), int(rng.integers(1, 4))
    attributes = {
        "strides": rng.integers(1, 3, 2).tolist(), "dilations": rng.integers(1, 3, 2).tolist(),
        "pads": rng.integers(0, 3, 4).tolist(), "group": group,
    }  # fmt: skip
    x = rng.integers(-128, 128, (1, cin, 9, 8)).astype(np.int8)
    w = rng.integers(-127, 128, (cout, cin // group, k, k)).astype(np.int8)
    bias = rng.integers(-5000, 5000, cout).astype(np.int32)
    sx = np.float32(2.0 ** rng.integers(-6, 0))
    # powers of two put sums on ties; one last bit more puts them beside
    sw = (np.float32(2.0) ** rng.integers(-6, 0, cout)).astype(np.float32) * np.float32(1 + rng.integers(0, 2) * 2**-22)
    sy = np.float32(rng.choice([1.0, 2.0, 8.0, 0.37]))
    zx, zy = int(rng.integers(-128, 128)), int(rng.integers(-128, 128))
    m = Model()
    y = m.node("Conv", m.qdq(m.input("x", x.shape), sx, zx), m.weight(w, sw), m.bias(bias, sx * sw), **attributes)
    graph = compiled(m.build(m.qdq(y, float(sy), zy, out="y")))
    assert kinds(graph) == ["Conv"]
    got = Reference(graph).run({"x": x}, raw=True)["y"]
    np.testing.assert_array_equal(got, qlinear_conv(x, w, bias, sx, zx, sw, sy, zy, attributes))


def test_bounds_of_relu_and_clip_are_onnxruntimes_answer():
    rng = np.random.default_rng(0)
    for op, arguments in (("Relu", []), ("Clip", [0.0, 6.0]), ("Clip", [-1.0, 0.3])):
        m = Model()
        w = m.weight(rng.integers(-127, 128, (5, 3, 3, 3)), np.full(5, 0.01))
        c = m.node("Conv", m.qdq(m.input("x", (1, 3, 7, 7)), 0.02, 3), w)
        a = m.node(op, c, *[m.constant(v) for v in arguments])
        model = m.build(m.qdq(a, 0.025, -128 if op == "Relu" else -7, out="y"))
        graph = assert_within(model, {"x": rng.normal(size=(1, 3, 7, 7)).astype(np.float32)})
        assert kinds(graph) == ["Conv"]
        assert (graph.ops[0].epilogue.lo, graph.ops[0].epilogue.hi) != (-128, 127) or op == "Relu"


def test_a_function_after_a_quantized_sum_becomes_the_table_of_its_epilogue():
    m = Model()
    rng = np.random.default_rng(1)
    c = m.node("Conv", m.qdq(m.input("x", (1, 3, 5, 5)), 0.02, 3), m.weight(rng.integers(-127, 128, (4, 3, 1, 1)), 0.02))
    p = m.qdq(c, 0.05, 10)
    y = m.node("Mul", p, m.node("Sigmoid", p))
    graph = assert_within(m.build(m.qdq(y, 0.03, -120, out="y")), {"x": rng.normal(size=(1, 3, 5, 5)).astype(np.float32)})
    assert kinds(graph) == ["Conv"]
    assert graph.ops[0].epilogue.table is not None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_conv_transpose_is_within_a_quantum(seed):
    rng = np.random.default_rng(seed)
    group = int(rng.choice([1, 2]))
    cin, mg, k = group * int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.integers(2, 4))
    stride = int(rng.integers(1, 4))
    form = [
        {"pads": rng.integers(0, 2, 4).tolist(), "output_padding": [int(rng.integers(0, stride))] * 2},
        {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"output_shape": [4 * stride, 5 * stride]},
    ][int(rng.integers(0, 4))]  # fmt: skip
    m = Model()
    w = m.weight(rng.integers(-127, 128, (cin, mg, k, k)), rng.uniform(0.001, 0.02, mg), axis=1)
    x = m.qdq(m.input("x", (1, cin, 4, 5)), 0.02, 5)
    y = m.node("ConvTranspose", x, w, m.constant(rng.normal(size=mg * group)), strides=[stride] * 2, group=group, **form)
    model = m.build(m.qdq(y, 0.03, -3, out="y"))
    graph = assert_within(model, {"x": rng.normal(size=(1, cin, 4, 5)).astype(np.float32)})
    assert kinds(graph) == ["ConvTranspose"]


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("size", [(7, 8), (5, 5)])
def test_auto_pad_and_one_spatial_axis(auto_pad, size):
    rng = np.random.default_rng(2)
    for shape in ((1, 2, *size), (1, 2, size[0])):
        m = Model()
        rank = len(shape) - 2
        w = m.weight(rng.integers(-127, 128, (3, 2, *[3] * rank)), 0.01)
        y = m.node("Conv", m.qdq(m.input("x", shape), 0.02, 3), w, strides=[2] * rank, auto_pad=auto_pad)
        graph = assert_within(m.build(m.qdq(y, 0.02, 1, out="y")), {"x": rng.normal(size=shape).astype(np.float32)})
        assert "Island" not in kinds(graph)


@pytest.mark.parametrize("alpha, beta, trans_a, trans_b", [(1.0, 1.0, 0, 0), (0.5, 2.0, 1, 1), (1.5, 0.0, 0, 1), (1.0, 1.0, 1, 0)])
@pytest.mark.parametrize("c_shape", [(), (1,), (5,), (1, 5)])
def test_gemm(alpha, beta, trans_a, trans_b, c_shape):
    rng = np.random.default_rng(3)
    m = Model()
    shape = (4, 3) if trans_a else (3, 4)
    w = m.weight(rng.integers(-127, 128, (5, 4) if trans_b else (4, 5)), rng.uniform(0.01, 0.02, 5), axis=0 if trans_b else 1)
    c = m.constant(rng.normal(size=c_shape))
    y = m.node("Gemm", m.qdq(m.input("x", shape), 0.02, 3), w, c, alpha=alpha, beta=beta, transA=trans_a, transB=trans_b)
    graph = assert_within(m.build(m.qdq(y, 0.05, 1, out="y")), {"x": rng.normal(size=shape).astype(np.float32)})
    assert "FullyConnected" in kinds(graph)
    assert "Island" not in kinds(graph)


@pytest.mark.parametrize(
    "a, b", [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (3, 4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,))]
)
def test_matmul_of_two_activations_and_with_a_constant(a, b):
    rng = np.random.default_rng(4)
    feeds = {"a": rng.normal(size=a).astype(np.float32), "b": rng.normal(size=b).astype(np.float32)}
    m = Model()
    y = m.node("MatMul", m.qdq(m.input("a", a), 0.02, 3), m.qdq(m.input("b", b), 0.03, -4))
    assert "MatMul" in kinds(assert_within(m.build(m.qdq(y, 0.05, 1, out="y")), feeds))
    if len(b) == 2:
        m = Model()
        y = m.node("MatMul", m.qdq(m.input("a", a), 0.02, 3), m.weight(rng.integers(-127, 128, b), np.full(b[1], 0.01), axis=1))
        assert kinds(assert_within(m.build(m.qdq(y, 0.05, 1, out="y")), {"a": feeds["a"]})) == ["FullyConnected"]


def test_a_bias_beyond_32_bits_is_clipped_and_no_sum_overflows():
    m = Model()
    w = m.weight(np.full((1, 1, 1, 1), 127), 1e-8)
    y = m.node("Conv", m.qdq(m.input("x", (1, 1, 2, 2)), 1e-6, 0), w, m.constant([1e9]))
    graph = compiled(m.build(m.qdq(y, 1e3, 0, out="y")))
    codes = Reference(graph).run({"x": np.full((1, 1, 2, 2), 127, np.int8)}, raw=True)["y"]
    assert codes.min() >= 0, "the sum wrapped around"
