"""Constraints and small questions that several families of operators share."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from axforge.axcompiler.numerics import Array
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators.base import Role

MAX_RANK = 8


# ---------------------------------------------------------------- constraints: the docstring is what a user reads


def float32(view: NodeView) -> bool:
    """The first operand and the results must be float32."""
    return all(view.dtypes.get(name) == "float32" for name in (view.inputs[0], *filter(None, view.outputs)))


def all_float32(view: NodeView) -> bool:
    """All operands must be float32."""
    return all(view.dtypes.get(name) == "float32" for name in (*filter(None, view.inputs), *filter(None, view.outputs)))


def static(view: NodeView) -> bool:
    """The shapes of operands and results must be known."""
    return all(name in view.shapes for name in (*filter(None, view.inputs), *filter(None, view.outputs)))


def not_empty(view: NodeView) -> bool:
    """No operand or result may be empty."""
    return all(0 not in view.shapes[name] for name in (view.inputs[0], *filter(None, view.outputs)))


def ranks(view: NodeView) -> bool:
    """Operands and results have at most 8 axes."""
    return all(len(view.shapes[name]) <= MAX_RANK for name in (view.inputs[0], *filter(None, view.outputs)))


def one_result(view: NodeView) -> bool:
    """Only the first result may be used."""
    return not any(view.outputs[1:])


def varies(view: NodeView) -> bool:
    """At least one operand must be no constant."""
    return any(name and name not in view.constants for name in view.inputs)


def parameters_constant(view: NodeView) -> bool:
    """Shapes, axes, sizes and other parameters must be constants."""
    return all(not name or name in view.constants for name in view.inputs[1:])


BASIC = (float32, static, not_empty, ranks)
BASIC_ALL = (all_float32, static, not_empty, ranks, varies)


# ---------------------------------------------------------------- roles


def data_first(view: NodeView) -> tuple[Role, ...]:
    """One activation, then parameters."""
    return (Role.ACTIVATION,) + (Role.PARAMETER,) * (len(view.inputs) - 1)


def all_data(view: NodeView) -> tuple[Role, ...]:
    """Every operand is an activation."""
    return (Role.ACTIVATION,) * len(view.inputs)


# ---------------------------------------------------------------- attributes and parameters


def attribute(view: NodeView, name: str, default: Any) -> Any:
    """Value of an attribute; text as str."""
    value = view.attributes.get(name, default)
    return value.decode() if isinstance(value, bytes) else value


def ints(view: NodeView, name: str, i: int | None = None) -> tuple[int, ...] | None:
    """A list of integers given as attribute `name` or as constant input `i`, whichever this opset has; None if left out."""
    if name in view.attributes:
        return tuple(int(v) for v in view.attributes[name])
    value = view.constant(i) if i is not None else None
    return None if value is None else tuple(int(v) for v in np.asarray(value).reshape(-1))


def shape_of(view: NodeView, i: int = 0) -> tuple[int, ...]:
    """Static shape of input i (which the constraint `static` has assured)."""
    return view.shapes[view.inputs[i]]


def result_shape(view: NodeView, i: int = 0) -> tuple[int, ...]:
    """Static shape of output i."""
    return view.shapes[view.outputs[i]]


def normal_axis(axis: int, rank: int) -> int:
    """The axis counted from the front."""
    return axis + rank if axis < 0 else axis


def normal_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, ascending."""
    return tuple(sorted(normal_axis(a, rank) for a in axes))


# ---------------------------------------------------------------- windows (convolution and pooling)


def window_rank(view: NodeView) -> int:
    """Number of spatial axes of the first operand."""
    return len(shape_of(view)) - 2


def one_or_two_spatial_axes(view: NodeView) -> bool:
    """The operand must have 3 or 4 axes (N, C, W or N, C, H, W)."""
    return len(shape_of(view)) in (3, 4)


def spatial(view: NodeView, name: str, default: int = 1) -> tuple[int, ...]:
    """strides, dilations or the like, one for each spatial axis."""
    return ints(view, name) or (default,) * window_rank(view)


def window_pads(view: NodeView, kernel: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(before, after) per spatial axis, so that the windows give exactly the inferred result's size (auto_pad, ceil_mode).

    With VALID, or explicit pads and ceil_mode, `after` grows by what the last window reads beyond the padded image.
    """
    rank = window_rank(view)
    size, out = shape_of(view)[2:], result_shape(view)[2:]
    strides, dilations = spatial(view, "strides"), spatial(view, "dilations")
    need = [(o - 1) * s + (k - 1) * d + 1 - n for o, s, k, d, n in zip(out, strides, kernel, dilations, size, strict=True)]
    mode = attribute(view, "auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [max(n, 0) for n in need]
        low, high = [t // 2 for t in total], [t - t // 2 for t in total]
        return (tuple(low), tuple(high)) if mode == "SAME_UPPER" else (tuple(high), tuple(low))
    explicit = (0,) * (2 * rank) if mode == "VALID" else spatial_pads(view)
    before, after = explicit[:rank], explicit[rank:]
    return before, tuple(max(a, n - b) for a, b, n in zip(after, before, need, strict=True))


def spatial_pads(view: NodeView) -> tuple[int, ...]:
    """The attribute `pads`: all beginnings, then all ends."""
    return ints(view, "pads") or (0,) * (2 * window_rank(view))


def pads_not_negative(view: NodeView) -> bool:
    """Padding must not be negative."""
    return all(p >= 0 for p in spatial_pads(view))


def pair(values: Sequence[int], fill: int = 1) -> tuple[int, int]:
    """Two values, for H and W, of one or two: a 1-D operator works on images of height 1."""
    return (fill, int(values[0])) if len(values) == 1 else (int(values[0]), int(values[1]))


def four_pads(before: Sequence[int], after: Sequence[int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right)."""
    (top, left), (bottom, right) = pair(before, 0), pair(after, 0)
    return (top, left, bottom, right)


def as_image(shape: Sequence[int]) -> tuple[int, ...]:
    """[N, C, W] as [N, C, 1, W]; four axes as they are."""
    return (shape[0], shape[1], 1, shape[2]) if len(shape) == 3 else tuple(shape)


def number(value: Array | None, default: float) -> float:
    """A constant number, or the default if it is left out."""
    return default if value is None else float(np.asarray(value).reshape(-1)[0])


def product(values: Sequence[int]) -> int:
    """The product of sizes."""
    return math.prod(values)


Constraint = Callable[[NodeView], bool]
Lower = Callable[[Any, NodeView], None]
