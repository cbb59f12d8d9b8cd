"""A user's own QDQ, in the forms that tools write, is read for what it says; what is not 8 bits per tensor stays float and exact."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from qdq_models import Model, assert_within, compiled, kinds, plain_run

from axforge.axcompiler.check.clean import clean
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.onnx_graph.net import to_model
from axforge.axcompiler.reference import Reference

X = np.random.default_rng(6).normal(size=(1, 3, 6, 6)).astype(np.float32)
W = np.random.default_rng(7).integers(-127, 128, (4, 3, 3, 3))


def conv(m, weight, bias=""):
    x = m.qdq(m.input("x", X.shape), 0.02, 3)
    return m.build(m.qdq(m.node("Conv", x, weight, *([bias] if bias else [])), 0.1, -5, out="y"))


def uint8_weight(m):
    zero = m.constant(128, np.uint8)
    return m.node("DequantizeLinear", m.constant(W + 128, np.uint8), m.constant(0.01), zero)


def quantized_float_weight(m):
    s, z = m.constant(0.01), m.constant(0, np.int8)
    return m.node("DequantizeLinear", m.node("QuantizeLinear", m.constant(W * 0.01), s, z), s, z)


WEIGHTS = {
    "per tensor": lambda m: m.weight(W, 0.01),
    "per channel": lambda m: m.weight(W, np.linspace(0.005, 0.02, 4)),
    "uint8 around 128": uint8_weight,
    "float through Q and DQ": quantized_float_weight,
    "without a zero point": lambda m: m.node("DequantizeLinear", m.constant(W, np.int8), m.constant(0.01)),
}


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("opset", [13, 17, 19, 21, 23])
@pytest.mark.parametrize("form", WEIGHTS)
def test_weights(form, opset, unsigned):
    m = Model(opset, unsigned=unsigned)
    assert kinds(assert_within(conv(m, WEIGHTS[form](m)), {"x": X})) == ["Conv"]


def test_opset_10_with_scales_per_tensor():
    m = Model(10)
    assert kinds(assert_within(conv(m, m.weight(W, 0.01)), {"x": X})) == ["Conv"]


@pytest.mark.parametrize("bias", ["float", "int32", "int32 at another scale"])
def test_biases(bias):
    m = Model()
    w = m.weight(W, np.full(4, 0.01))
    codes = np.array([100, -2000, 30000, 0])
    b = m.constant(codes * 2e-4) if bias == "float" else m.bias(codes, np.full(4, 0.02 * 0.01 if bias == "int32" else 3e-4))
    assert kinds(assert_within(conv(m, w, b), {"x": X})) == ["Conv"]


def test_an_activation_without_a_zero_point_is_uint8():
    m = Model()
    s = m.constant(0.02)
    x = m.node("DequantizeLinear", m.node("QuantizeLinear", m.input("x", X.shape), s), s)
    graph = assert_within(m.build(m.qdq(m.node("Conv", x, m.weight(W, 0.01)), 0.1, -5, out="y")), {"x": X})
    assert graph.tensors["x"].quant.zero_point == -128


NOT_READ = {
    "int16 activations": (lambda m: (21, m.constant(3, np.int16), m.constant(0.001)), "only 8-bit codes"),
    "activations per channel": (lambda m: (17, m.constant([1, 2, 3], np.int8), m.constant([0.02, 0.03, 0.04])), "is not quantized"),
}


@pytest.mark.parametrize("form", NOT_READ)
def test_what_is_not_8_bits_per_tensor_stays_float(form):
    m = Model()
    make, reason = NOT_READ[form]
    m.opset, zero, scale = make(m)
    axis = {"axis": 1} if "channel" in form else {}
    q = m.node("QuantizeLinear", m.input("x", X.shape), scale, zero, **axis)
    y = m.node("Conv", m.node("DequantizeLinear", q, scale, zero, **axis), m.weight(W, 0.01))
    graph = assert_within(m.build(m.qdq(y, 0.1, -5, out="y")), {"x": X})
    assert kinds(graph) == ["Island"]
    assert reason in graph.ops[0].reason


def test_an_asymmetric_weight_and_an_int4_weight_stay_float_with_a_reason():
    m = Model()
    w = m.node("DequantizeLinear", m.constant(np.abs(W) * 2, np.uint8), m.constant(0.01), m.constant(10, np.uint8))
    graph = assert_within(conv(m, w), {"x": X})
    assert kinds(graph) == ["Island"]
    assert "zero point that is not in the middle" in graph.ops[0].reason
    m = Model(21)
    codes = np.clip(W, -8, 7).astype(np.int8)
    m.initializers.append(helper.make_tensor("w4", TensorProto.INT4, codes.shape, codes.reshape(-1).tolist()))
    graph = assert_within(conv(m, m.node("DequantizeLinear", "w4", m.constant(0.01))), {"x": X})
    assert kinds(graph) == ["Island"]
    assert "only 8-bit codes" in graph.ops[0].reason


def test_the_names_of_inputs_and_outputs_stay():
    m = Model()
    x = m.qdq(m.input("image in", X.shape), 0.02, 3)
    c = m.node("Conv", x, m.weight(W, 0.01))
    a = m.qdq(c, 0.1, -5, out="first/out")
    b = m.qdq(m.node("Sigmoid", a), 1 / 256, -128, out="second")
    graph = assert_within(m.build(a, b), {"image in": X})
    assert graph.inputs == ("image in",)
    assert graph.outputs == ("first/out", "second")
    assert all(graph.tensors[n].quant for n in (*graph.inputs, *graph.outputs))


def test_a_tensor_that_is_quantized_twice_and_also_used_in_float():
    m = Model()
    x = m.input("x", X.shape)
    a, b = m.qdq(x, 0.02, 3), m.qdq(x, 0.05, -7)
    s = m.qdq(m.node("Add", a, b), 0.05, 0, out="s")
    r = m.node("Sin", x, out="r")
    graph = assert_within(m.build(s, r), {"x": X})
    assert graph.tensors["x"].quant is None
    assert kinds(graph).count("Add") == 1


def test_a_change_of_scale_is_a_table_and_two_names_for_one_output_are_two_outputs():
    m = Model()
    a = m.qdq(m.input("x", X.shape), 0.02, 3, out="a")
    b = m.qdq(a, 0.05, -7, out="b")
    q = next(n.output[0] for n in m.nodes if n.op_type == "QuantizeLinear")
    twin = m.node("DequantizeLinear", q, m.nodes[0].input[1], m.nodes[0].input[2], out="twin")
    graph = assert_within(m.build(a, b, twin), {"x": X})
    assert "Island" not in kinds(graph)


def test_raw_codes_at_the_border_stay_what_they_are():
    m = Model(unsigned=True)
    x = m.input("x", X.shape, TensorProto.UINT8)
    s, z = m.constant(0.02), m.constant(131, np.uint8)
    y = m.node("Conv", m.qdq(m.node("DequantizeLinear", x, s, z), 0.02, 3), m.weight(W, 0.01))
    out = m.node("QuantizeLinear", m.qdq(y, 0.1, -5), m.constant(0.1), m.constant(123, np.uint8), out="y")
    model = m.build(out)
    feeds = {"x": np.random.default_rng(0).integers(0, 256, X.shape).astype(np.uint8)}
    graph = compiled(model)
    got = Reference(graph).run(feeds)["y"]
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - plain_run(model, feeds)[0].astype(int)).max() <= 1
    assert "Conv" in kinds(graph)


def test_text_and_sequences_are_refused_with_a_sentence():
    m = Model()
    y = m.node("Identity", m.input("x", (2,), TensorProto.STRING))
    with pytest.raises(AxforgeError, match="tensor of text"):
        compiled(m.build(y))
    m = Model()
    y = m.node("SequenceConstruct", m.input("x", (2,)))
    with pytest.raises(AxforgeError, match="not a tensor of known rank"):
        compiled(m.build(y))


def test_what_onnxruntime_cannot_run_is_refused_when_compiling():
    m = Model()
    m.node("NoSuchThing", m.input("x", (2,)), domain="my.domain", out="y")
    graph = helper.make_graph(m.nodes, "g", m.inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2,))])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.domain", 1)]
    with pytest.raises(AxforgeError, match="onnxruntime cannot run a part of the model"):
        compiled(helper.make_model(graph, opset_imports=opsets, ir_version=9))


def test_copies_of_codes_between_q_and_dq_run_on_the_aipu():
    m = Model(unsigned=True)
    s, z = m.constant(0.02), m.constant(131, np.uint8)
    q = m.node("QuantizeLinear", m.input("x", X.shape), s, z)
    p = m.node("MaxPool", q, kernel_shape=[2, 2], strides=[2, 2])
    t = m.node("Transpose", p, perm=[0, 2, 3, 1])
    model = m.build(m.node("DequantizeLinear", t, s, z, out="y"))
    checked = to_model(clean(model, {}, "model"))
    np.testing.assert_array_equal(plain_run(checked, {"x": X})[0], plain_run(model, {"x": X})[0])
    assert kinds(assert_within(checked, {"x": X}, quanta=0.0)) == ["MaxPool", "Transpose"]
