"""THE definition of the int8 arithmetic, in plain NumPy. Every engine equals these functions bit for bit.

Conventions: codes are int8, accumulators int32 and exact, every float operation is one IEEE float32 operation (no fused multiply-add,
and no float64 in between but for the root in `layer_norm_scaled`), rounding is half to even, and the zero point is added after rounding.
Shapes are ONNX's. `spec.py` bounds reduction lengths so that no int32 accumulator overflows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: an array of any element type
Array = NDArray[Any]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
F32 = NDArray[np.float32]

#: longest reduction whose int32 sum of products of a 9-bit and an 8-bit code cannot overflow, bias aside
MAX_REDUCTION = 2**31 // (255 * 128) - 1
#: resolution of `resize_linear` weights per axis, in bits: 9-bit code difference * 2**10 * 2**10 < 2**31
RESIZE_BITS = 10
#: resolution of the exponentials in `softmax`, in bits: a sum over 2**15 elements stays below 2**31
SOFTMAX_BITS = 15
#: longest row that `layer_norm_scaled` takes: an int32 holds the sum of its squares, also where an engine counts codes from 0 to 255
MAX_NORMALIZED = (2**31 - 1) // 255**2


# ---------------------------------------------------------------- real <-> code


def quantize(x: ArrayLike, scale: float, zero_point: int) -> I8:
    """Codes of real numbers: clamp(round(x / scale) + zero_point), a float32 division as in ONNX QuantizeLinear; NaN is 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        t = np.rint(np.asarray(x, np.float32) / np.float32(scale))
    t = np.nan_to_num(t, nan=0.0, posinf=512.0, neginf=-512.0)
    return (np.clip(t, -128 - zero_point, 127 - zero_point).astype(np.int32) + zero_point).astype(np.int8)


def dequantize(code: NDArray[np.int8], scale: float, zero_point: int) -> F32:
    """Real numbers of codes: float32(code - zero_point) * scale."""
    return (code.astype(np.int32) - np.int32(zero_point)).astype(np.float32) * np.float32(scale)


def requantize(t: F32, zero_point: int, lo: int, hi: int, table: I8 | None = None) -> I8:
    """clamp(round_half_even(t) + zero_point, lo, hi), then the table. t: real values in units of the output scale."""
    code = np.clip(np.rint(t), lo - zero_point, hi - zero_point).astype(np.int32) + zero_point
    return lookup(code.astype(np.int8), table) if table is not None else code.astype(np.int8)


def lookup(code: I8, table: I8) -> I8:
    """table[code + 128]."""
    return np.asarray(table[code.astype(np.int16) + 128])


# ---------------------------------------------------------------- products


def _pad_hw(x: NDArray[np.generic], pads: Sequence[int], value: int) -> NDArray[np.generic]:
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def _windows(x: NDArray[np.generic], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> NDArray[np.generic]:
    """x [N, C, H, W] -> view [N, C, OH, OW, KH, KW]."""
    (kh, kw), (sh, sw), (dh, dw) = kernel, strides, dilations
    span = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(2, 3))
    return np.asarray(view[:, :, ::sh, ::sw, ::dh, ::dw])


def conv_accumulate(
    x: I8, x_zero_point: int, weight: I8, bias: I32, strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int], groups: int
) -> I32:
    """Exact int32 sum of (x - z_x) * w over the window, plus bias: [N, M, OH, OW]."""
    m, cg, kh, kw = weight.shape
    centred = _pad_hw(x.astype(np.int32) - x_zero_point, pads, 0)
    win = _windows(centred, (kh, kw), strides, dilations)
    n, _, oh, ow = win.shape[:4]
    out = np.empty((n, m, oh, ow), np.int32)
    mg = m // groups
    for g in range(groups):
        patch = win[:, g * cg : (g + 1) * cg].transpose(0, 2, 3, 1, 4, 5).reshape(n, oh * ow, cg * kh * kw)
        rows = weight[g * mg : (g + 1) * mg].reshape(mg, cg * kh * kw)
        out[:, g * mg : (g + 1) * mg] = exact_matmul(patch, rows.T).transpose(0, 2, 1).reshape(n, mg, oh, ow)
    return out + bias.astype(np.int32)[None, :, None, None]


def exact_matmul(a: NDArray[np.generic], b: NDArray[np.generic]) -> I32:
    """Integer product a [..., I, K] @ b [..., K, J], exact modulo 2**32, through float64 BLAS.

    |a| <= 256 and |b| <= 256: a block of 2**16 products stays far below 2**53, so float64 sums are exact.
    """
    total: NDArray[np.int64] | None = None
    for k in range(0, max(a.shape[-1], 1), 1 << 16):
        part = np.matmul(a[..., k : k + (1 << 16)].astype(np.float64), b[..., k : k + (1 << 16), :].astype(np.float64)).astype(np.int64)
        total = part if total is None else total + part
    assert total is not None
    return total.astype(np.int32)


def conv_transpose_accumulate(
    x: I8,
    x_zero_point: int,
    weight: I8,
    bias: I32,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
) -> I32:
    """Exact int32 transposed convolution: each (x - z_x) spread over its window, plus bias: [N, M, OH, OW]."""
    n, c, h, w = x.shape
    _, mg, kh, kw = weight.shape
    (sh, sw), (dh, dw) = strides, dilations
    top, left, bottom, right = pads
    full = np.zeros(
        (n, mg * groups, (h - 1) * sh + (kh - 1) * dh + 1 + output_padding[0], (w - 1) * sw + (kw - 1) * dw + 1 + output_padding[1]),
        np.int32,
    )
    centred = x.astype(np.int32) - x_zero_point
    cg = c // groups
    for g in range(groups):
        xs = centred[:, g * cg : (g + 1) * cg].transpose(0, 2, 3, 1).reshape(n, h * w, cg)
        for i in range(kh):
            for j in range(kw):
                part = exact_matmul(xs, weight[g * cg : (g + 1) * cg, :, i, j]).transpose(0, 2, 1).reshape(n, mg, h, w)
                rows = slice(i * dh, i * dh + (h - 1) * sh + 1, sh)
                cols = slice(j * dw, j * dw + (w - 1) * sw + 1, sw)
                full[:, g * mg : (g + 1) * mg, rows, cols] += part
    cut = full[:, :, top : full.shape[2] - bottom, left : full.shape[3] - right]
    return cut + bias.astype(np.int32)[None, :, None, None]


def scale_channels(acc: I32, multiplier: F32, axis: int) -> F32:
    """float32(acc) * multiplier, one multiplier for each channel along `axis`."""
    shape = [1] * acc.ndim
    shape[axis] = -1
    return acc.astype(np.float32) * multiplier.astype(np.float32).reshape(shape)


def fully_connected_accumulate(x: I8, x_zero_point: int, weight: I8, bias: I32) -> I32:
    """Exact int32 (x - z_x) [..., K] @ weight.T, weight [M, K], plus bias: [..., M]."""
    flat = x.reshape(-1, x.shape[-1]).astype(np.int32) - x_zero_point
    return (exact_matmul(flat, weight.T) + bias.astype(np.int32)).reshape(*x.shape[:-1], weight.shape[0])


def matmul_scaled(a: I8, a_zero_point: int, b: I8, b_zero_point: int, multiplier: float) -> F32:
    """float32(exact int32 (a - z_a) @ (b - z_b)) * multiplier."""
    acc = exact_matmul(a.astype(np.int32) - a_zero_point, b.astype(np.int32) - b_zero_point)
    return acc.astype(np.float32) * np.float32(multiplier)


# ---------------------------------------------------------------- element-wise


def add_scaled(a: I8, a_zero_point: int, b: I8, b_zero_point: int, multipliers: Sequence[float]) -> F32:
    """float32(a - z_a) * m_a + float32(b - z_b) * m_b: each product rounded, then the sum rounded."""
    ra = (a.astype(np.int32) - a_zero_point).astype(np.float32) * np.float32(multipliers[0])
    rb = (b.astype(np.int32) - b_zero_point).astype(np.float32) * np.float32(multipliers[1])
    return np.asarray(ra + rb)


def mul_scaled(a: I8, a_zero_point: int, b: I8, b_zero_point: int, multiplier: float) -> F32:
    """float32((a - z_a) * (b - z_b)) * multiplier."""
    product = (a.astype(np.int32) - a_zero_point) * (b.astype(np.int32) - b_zero_point)
    return product.astype(np.float32) * np.float32(multiplier)


def softmax_scaled(x: I8, axis: int, exponent: I32, multiplier: float) -> F32:
    """float32(e) / float32(sum of e) * multiplier, e = exponent[max(x) - x]; the sum is an exact int32."""
    wide = x.astype(np.int32)
    e = exponent[wide.max(axis=axis, keepdims=True, initial=-128) - wide]  # an axis without elements has a maximum too
    total = e.sum(axis=axis, keepdims=True, dtype=np.int32)
    return (e.astype(np.float32) / total.astype(np.float32)) * np.float32(multiplier)


def layer_norm_scaled(x: I8, multiplier: F32, offset: F32, epsilon: float) -> F32:
    """Layer normalization of the last axis of D elements: float32(D * x - S) * r * multiplier + offset, each step rounded to float32.

    S = sum of x, Q = sum of x * x, and V = D * Q - S * S are exact integers (so is D * x - S in float32), and do not depend on a zero
    point. r = float32(1 / sqrt(float64(V) + epsilon)), each step rounded to float64, and 0 where V + epsilon is not above 0.
    """
    count = x.shape[-1]
    wide = x.astype(np.int64)
    total = wide.sum(axis=-1, keepdims=True)
    spread = (count * (wide * wide).sum(axis=-1, keepdims=True) - total * total).astype(np.float64) + np.float64(epsilon)
    above = spread > 0
    root = np.where(above, 1 / np.sqrt(np.where(above, spread, 1.0)), 0.0).astype(np.float32)
    return np.asarray((count * wide - total).astype(np.float32) * root * multiplier + offset)


# ---------------------------------------------------------------- pooling, reduction, resize


def max_pool(x: I8, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]) -> I8:
    """Largest code in each window; padding counts as -128."""
    win = _windows(_pad_hw(x, pads, -128), kernel, strides, dilations)
    return np.asarray(win.max(axis=(4, 5)), np.int8)


def average_pool_scaled(
    x: I8, x_zero_point: int, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], multiplier: F32
) -> F32:
    """float32(int32 sum of (x - z_x) inside the image) * multiplier[n - 1], n = elements inside the image."""
    centred = _pad_hw(x.astype(np.int32) - x_zero_point, pads, 0)
    acc = _windows(centred, kernel, strides, (1, 1)).sum(axis=(4, 5), dtype=np.int32)
    inside = _pad_hw(np.ones((1, 1, *x.shape[2:]), np.int32), pads, 0)
    count = _windows(inside, kernel, strides, (1, 1)).sum(axis=(4, 5), dtype=np.int32)
    return acc.astype(np.float32) * multiplier[np.maximum(count, 1) - 1]


def reduce_sum_scaled(x: I8, x_zero_point: int, axes: Sequence[int], keepdims: bool, multiplier: float) -> F32:
    """float32(int32 sum of (x - z_x) over axes) * multiplier."""
    acc = (x.astype(np.int32) - x_zero_point).sum(axis=tuple(axes), keepdims=keepdims, dtype=np.int32)
    return np.asarray(acc, np.int32).astype(np.float32) * np.float32(multiplier)


def resize_linear_scaled(x: I8, x_zero_point: int, index_h: I32, index_w: I32, weight_h: I32, weight_w: I32, multiplier: float) -> F32:
    """float32(sum of wy * wx * (x - z_x) over four neighbours, exact int32) * multiplier."""
    centred = x.astype(np.int32) - x_zero_point
    rows = centred[:, :, index_h[0]] * weight_h[0][:, None] + centred[:, :, index_h[1]] * weight_h[1][:, None]
    acc = rows[..., index_w[0]] * weight_w[0] + rows[..., index_w[1]] * weight_w[1]
    return acc.astype(np.float32) * np.float32(multiplier)
