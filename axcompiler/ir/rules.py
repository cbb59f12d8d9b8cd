"""What the rules of operators are made of: shapes, constants and bounds, each checked with a sentence that says what is wrong."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Constants = Mapping[str, NDArray[np.generic]]
MAX_ELEMENTS = 2**31

T = TypeVar("T")


class SpecError(Exception):
    """A rule is broken; the message names the operator or tensor and the rule."""


def require(ok: bool, what: str) -> None:
    """Raise SpecError(what) unless `ok`."""
    if not ok:
        raise SpecError(what)


def is_float32(x: float) -> bool:
    """Whether `x` is a finite number that float32 holds exactly."""
    return math.isfinite(x) and abs(x) <= 3.4e38 and float(np.float32(x)) == x


def require_float32(x: float) -> None:
    """A multiplier must be a float32 value."""
    require(is_float32(x), "a multiplier is not a float32 value")


def require_constant(constants: Constants, name: str, dtype: str, rank: int) -> None:
    """Constant `name` must exist, with this element type and this number of axes."""
    require(name in constants, f"there is no constant '{name}'")
    value = constants[name]
    require(
        value.dtype.name == dtype and value.ndim == rank,
        f"constant '{name}' is {value.dtype.name}{list(value.shape)} and should be {dtype} with {rank} axes",
    )


def require_shape(constants: Constants, name: str, shape: Shape) -> None:
    """Constant `name` must have exactly this shape."""
    found = constants[name].shape
    require(found == shape, f"constant '{name}' has shape {list(found)} and should have {list(shape)}")


def require_multipliers(constants: Constants, name: str, shape: Shape) -> None:
    """Constant `name` must be finite float32 multipliers of this shape."""
    require_shape(constants, name, shape)
    require(bool(np.isfinite(constants[name]).all()), f"constant '{name}' has entries that are not finite")


def require_indices(constants: Constants, name: str, size: int) -> None:
    """Every entry of constant `name` must be an index into an axis of `size` elements."""
    index = int32(constants, name)
    require(bool(((index >= 0) & (index < size)).all()), "an index is outside the operand")


def require_positive(*pairs: Sequence[int]) -> None:
    """Kernels, strides and dilations count from 1."""
    require(all(v >= 1 for pair in pairs for v in pair), "a kernel, stride or dilation is below 1")


def require_room(*shape: int) -> None:
    """What an engine may hold in between is bounded as tensors are."""
    require(math.prod(shape) < MAX_ELEMENTS, f"an intermediate of shape {shape} has more elements than 32 bits count")


def window_shape(
    shape: Shape, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]
) -> tuple[int, int]:
    """(OH, OW) of a window that moves over an operand [N, C, H, W]; checks all of its numbers."""
    require(len(shape) == 4, "the operand must have 4 axes (N, C, H, W)")
    require_positive(kernel, strides, dilations)
    require(all(p >= 0 for p in pads), "padding is negative")
    top, left, bottom, right = pads
    sizes = []
    for size, before, after, k, s, d in zip(shape[2:], (top, left), (bottom, right), kernel, strides, dilations, strict=True):
        span = (k - 1) * d + 1
        require(size + before + after >= span, "the window is larger than the padded image")
        sizes.append((size + before + after - span) // s + 1)
    require_room(*shape[:2], shape[2] + top + bottom, shape[3] + left + right)
    return sizes[0], sizes[1]


def broadcast_shape(*shapes: Shape) -> Shape:
    """The shape that NumPy broadcasting gives."""
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        raise SpecError(f"shapes {' and '.join(map(str, shapes))} do not broadcast") from None


def only(operands: Sequence[T]) -> T:
    """The operand of an operator that takes one."""
    (x,) = operands
    return x


# ---------------------------------------------------------------- constants by element type


def int8(constants: Constants, name: str) -> NDArray[np.int8]:
    """Constant `name` as int8."""
    return np.asarray(constants[name], np.int8)


def int32(constants: Constants, name: str) -> NDArray[np.int32]:
    """Constant `name` as int32."""
    return np.asarray(constants[name], np.int32)


def float32(constants: Constants, name: str) -> NDArray[np.float32]:
    """Constant `name` as float32."""
    return np.asarray(constants[name], np.float32)
