"""The arithmetic is what design section 4 says: exact accumulators, one float32 product, half-even rounding, then the zero point."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from axforge.axcompiler import numerics

RNG = np.random.default_rng(7)


def qlinear_conv(x, w, sx, zx, sw, sy, zy, strides, pads, dilations, group):
    """onnxruntime's answer for uint8 activations (int8 + 128) and int8 per-channel weights."""

    def init(name, value, dtype):
        return onnx.numpy_helper.from_array(np.asarray(value, dtype), name)

    node = helper.make_node(
        "QLinearConv",
        ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy"],
        ["y"],
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=group,
    )
    inits = [
        init("sx", sx, np.float32),
        init("zx", zx + 128, np.uint8),
        init("w", w, np.int8),
        init("sw", sw, np.float32),
        init("zw", np.zeros(len(sw)), np.int8),
        init("sy", sy, np.float32),
        init("zy", zy + 128, np.uint8),
    ]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        inits,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": (x.astype(np.int16) + 128).astype(np.uint8)})
    return (y.astype(np.int16) - 128).astype(np.int8)


def ours(x, w, sx, zx, sw, sy, zy, strides, pads, dilations, group):
    bias = np.zeros(len(w), np.int32)
    acc = numerics.conv_accumulate(x, zx, w, bias, strides, dilations, pads, group)
    m = (np.float32(sx) * sw.astype(np.float32)) / np.float32(sy)
    return numerics.requantize(numerics.scale_channels(acc, m, 1), zy, -128, 127), acc, m


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("group", [1, 4])
def test_convolution_equals_qlinearconv_near_ties(seed, group):
    """Scales are chosen so that many products lie next to a half: random scales cannot tell a wrong rounding from a right one."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (1, 8, 12, 11)).astype(np.int8)
    w = rng.integers(-127, 128, (12, 8 // group, 3, 3)).astype(np.int8)
    zx, zy = int(rng.integers(-128, 128)), int(rng.integers(-40, 40))
    sw = (rng.integers(1, 64, 12) * np.float32(2.0**-5)).astype(np.float32)
    sw[::2] *= np.float32(1 + 2**-22)
    args = (np.float32(2.0**-3), zx, sw, np.float32(1.0), zy, [2, 1], [1, 0, 2, 1], [1, 2], group)
    got, acc, m = ours(x, w, *args)
    t = acc.astype(np.float64) * m.astype(np.float64).reshape(1, -1, 1, 1)
    assert np.mean(np.abs(np.abs(t - np.floor(t)) - 0.5) < 1e-3) > 0.001, "the test has no near ties"
    np.testing.assert_array_equal(got, qlinear_conv(x, w, *args))


def test_requantize_rounds_half_to_even_before_the_zero_point():
    t = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30], np.float32)
    assert numerics.requantize(t, 1, -128, 127).tolist() == [1, 3, 3, 1, -1, 127, -128]
    assert numerics.requantize(t, 1, 1, 2).tolist() == [1, 2, 2, 1, 1, 2, 1]


def test_table_follows_the_clamp():
    table = np.arange(-128, 128)[::-1].astype(np.int8)
    assert numerics.requantize(np.array([300.0, -5.0], np.float32), 0, -128, 127, table).tolist() == [-128, 4]


@given(st.floats(width=32), st.floats(2.0**-20, 2.0**20, width=32), st.integers(-128, 127))
def test_quantize_is_onnx_quantizelinear(x, scale, zero_point):
    """Codes stay in range for every float; finite values follow round(x / scale) + zero_point."""
    code = int(numerics.quantize(np.array([x], np.float32), scale, zero_point)[0])
    with np.errstate(over="ignore"):
        ratio = np.float32(x) / np.float32(scale) if np.isfinite(x) else np.float32(0)
    if np.isfinite(x) and np.isfinite(ratio):
        assert code == int(np.clip(np.rint(ratio) + zero_point, -128, 127))
    assert -128 <= code <= 127


@given(st.integers(1, 40), st.integers(1, 300), st.integers(1, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_matrix_product_is_exact(i, k, j, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-255, 256, (i, k)), rng.integers(-128, 128, (k, j))
    np.testing.assert_array_equal(numerics.exact_matmul(a, b), a.astype(np.int64) @ b.astype(np.int64))


@pytest.mark.parametrize(
    "stride,pads,dilation,extra,group", [((1, 1), (0,) * 4, (1, 1), (0, 0), 1), ((2, 3), (1, 0, 1, 2), (2, 1), (1, 0), 2)]
)
def test_transposed_convolution_equals_onnxruntime(stride, pads, dilation, extra, group):
    """On integers that float32 holds exactly, ONNX's ConvTranspose is the oracle."""
    x = RNG.integers(-128, 128, (2, 4, 5, 6)).astype(np.int8)
    w = RNG.integers(-127, 128, (4, 3, 3, 2)).astype(np.int8)
    node = helper.make_node(
        "ConvTranspose", ["x", "w"], ["y"], strides=stride, pads=pads, dilations=dilation, output_padding=extra, group=group
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in (("x", x), ("w", w))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (want,) = session.run(None, {"x": x.astype(np.float32) - 3, "w": w.astype(np.float32)})
    got = numerics.conv_transpose_accumulate(x, 3, w, np.zeros(3 * group, np.int32), stride, dilation, pads, extra, group)
    np.testing.assert_array_equal(got, want.astype(np.int32))


def test_softmax_is_close_to_the_real_one_and_sums_to_one():
    x = RNG.integers(-128, 128, (5, 16)).astype(np.int8)
    scale = 0.05
    exponent = np.round(np.exp(-np.arange(256) * scale) * 2**15).astype(np.int32)
    got = numerics.requantize(numerics.softmax_scaled(x, 1, exponent, 256.0), -128, -128, 127)
    real = np.exp(x * scale) / np.exp(x * scale).sum(axis=1, keepdims=True)
    assert np.abs((got + 128.0) / 256 - real).max() < 1 / 256


def test_average_counts_only_the_image():
    x = np.full((1, 1, 3, 3), 10, np.int8)
    table = np.array([1.0 / n for n in range(1, 5)], np.float32)
    t = numerics.average_pool_scaled(x, 0, (2, 2), (2, 2), (1, 1, 0, 0), table)
    np.testing.assert_allclose(t, 10.0)


def test_padding_never_wins_a_maximum():
    x = np.full((1, 1, 2, 2), -127, np.int8)
    assert numerics.max_pool(x, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)).max() == -127


def test_layer_norm_is_that_of_real_numbers() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (6, 101)).astype(np.int8)
    m, o = rng.normal(0, 9, (2, 101)).astype(np.float32)
    real = x.astype(np.float64)
    wanted = (real - real.mean(-1, keepdims=True)) / np.sqrt(real.var(-1, keepdims=True) + 0.25) * m + o
    np.testing.assert_allclose(numerics.layer_norm_scaled(x, m, o, 0.25 * 101**2), wanted, rtol=1e-5, atol=1e-5)


def test_layer_norm_of_a_constant_row_is_the_offset() -> None:
    o = np.asarray([1, -2, 3], np.float32)
    for epsilon in (0.0, 1e-30, 5.0):
        t = numerics.layer_norm_scaled(np.full((2, 3), -128, np.int8), np.full(3, 1e30, np.float32), o, epsilon)
        np.testing.assert_array_equal(t, [o, o])


def test_layer_norm_is_exact_on_the_longest_row() -> None:
    """Sums by Python's integers; the difference from the mean is below 2**24, which float32 holds."""
    count = numerics.MAX_NORMALIZED
    x = np.random.default_rng(1).choice([-128, 127], count).astype(np.int8)
    codes = [int(v) for v in x]
    total, squares = sum(codes), sum(v * v for v in codes)
    root = np.float32(1 / np.sqrt(np.float64(count * squares - total * total)))
    wanted = np.asarray([np.float32(count * v - total) * root for v in codes], np.float32)
    assert max(abs(count * v - total) for v in (-128, 127)) < 2**24
    assert count * 255**2 < 2**31
    np.testing.assert_array_equal(numerics.layer_norm_scaled(x, np.ones(count, np.float32), np.zeros(count, np.float32), 0.0), wanted)
