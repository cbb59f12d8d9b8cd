"""Weights as int8 per output channel, and biases as int32 at the scale of the accumulator."""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

#: a bias may use this much of an int32, so that bias and products together stay inside
MAX_BIAS = 2.0**30
#: the accumulator's scale stays above this, well inside float32's normal numbers
MIN_PRODUCT = 2.0**-100


def channel_scales(weight: F32, axis: int, bias: F32 | None, x_scale: float) -> F32:
    """A scale a channel of `axis`: max|w| / 127, raised where the bias would overflow int32; 1 for a channel without anything."""
    others = tuple(a for a in range(weight.ndim) if a != axis)
    largest = np.abs(weight.astype(np.float64)).max(axis=others) if weight.size else np.zeros(weight.shape[axis])
    scale = largest / 127
    if bias is not None:
        scale = np.maximum(scale, np.abs(bias.astype(np.float64)) / (x_scale * MAX_BIAS))
    scale = np.where(scale > 0, np.maximum(scale, MIN_PRODUCT / x_scale), 1.0)
    return scale.astype(np.float32)


def quantize_weight(weight: F32, scale: F32, axis: int) -> NDArray[np.int8]:
    """Codes of a weight, -127..127."""
    shape = [-1 if a == axis else 1 for a in range(weight.ndim)]
    code = np.rint(weight.astype(np.float64) / scale.astype(np.float64).reshape(shape))
    return np.clip(code, -127, 127).astype(np.int8)


def quantize_bias(bias: F32, scale: F32) -> NDArray[np.int32]:
    """Codes of a bias at the accumulator's scale."""
    code = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    return np.clip(code, -(2.0**31 - 1), 2.0**31 - 1).astype(np.int32)
