"""Resizing: nearest along any axes (a selection of codes), linear along the last two of four (or the last of three).

Coordinates are computed in float32 in the order of the ONNX formulas. Where they are rounded to the nearest, a position as
good as half way between two elements is taken as half way, as onnxruntime does; the last bit must not decide on the neighbour.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from axforge.axcompiler import ir
from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.numerics import RESIZE_BITS
from axforge.axcompiler.onnx_graph.net import attribute
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import Operator, Role, Scale, always, register

F32 = NDArray[np.float32]
#: a position nearer than this to half way is half way, and a scale nearer than this to 1 is 1, but for the rounding of float32
TIE = 1e-5
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn")


def known_mode(view: NodeView) -> bool:
    """The mode must be nearest or linear."""
    return _mode(view) in ("nearest", "linear")


def known_coordinates(view: NodeView) -> bool:
    """The coordinate transformation must not be tf_crop_and_resize."""
    return _coordinates(view) in COORDINATES


def no_antialias(view: NodeView) -> bool:
    """Antialiasing is not supported."""
    return not c.attribute(view, "antialias", 0)


def linear_axes(view: NodeView) -> bool:
    """Linear resizing works on the last two of four axes, or the last of three."""
    before, after = c.shape_of(view), c.result_shape(view)
    return _mode(view) == "nearest" or (len(before) in (3, 4) and before[:2] == after[:2])


def _mode(view: NodeView) -> str:
    return str(c.attribute(view, "mode", "nearest"))


def _coordinates(view: NodeView) -> str:
    if view.op_type == "Upsample" or view.opset < 11:
        return "asymmetric"
    return str(c.attribute(view, "coordinate_transformation_mode", "half_pixel"))


def _rounding(view: NodeView) -> str:
    if view.op_type == "Upsample" or view.opset < 11:
        return "simple"
    return str(c.attribute(view, "nearest_mode", "round_prefer_floor"))


def scales_of(view: NodeView) -> tuple[float, ...]:
    """Scale of every axis, float32 values, as given, or as the sizes and the aspect ratio policy make them."""
    shape, out = c.shape_of(view), c.result_shape(view)
    axes = tuple(c.normal_axis(a, len(shape)) for a in c.ints(view, "axes") or range(len(shape)))
    scales = [float(np.float32(o) / np.float32(n)) for n, o in zip(shape, out, strict=True)]
    given = view.attributes.get("scales")
    if given is None:
        value = view.constant(1 if view.op_type == "Upsample" or view.opset < 11 else 2)
        given = None if value is None or not value.size else value.tolist()
    if given is not None:
        for axis, scale in zip(axes, given, strict=True):
            scales[axis] = float(np.float32(scale))
        return tuple(scales)
    policy = c.attribute(view, "keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        sizes = np.asarray(view.constant(3)).tolist()
        choose = min if policy == "not_larger" else max
        common = choose(size / shape[axis] for axis, size in zip(axes, sizes, strict=True))
        for axis in axes:
            scales[axis] = float(np.float32(common))
    return tuple(scales)


def source_positions(size: int, out: int, scale: float, mode: str) -> F32:
    """Position in the operand of each result element along one axis (may lie outside)."""
    x, s = np.arange(out, dtype=np.float32), np.float32(scale)
    half, one = np.float32(0.5), np.float32(1)
    if mode == "asymmetric":
        return x / s
    if mode == "align_corners":
        return x * np.float32(size - 1) / np.float32(out - 1) if out > 1 else np.zeros(out, np.float32)
    if mode == "tf_half_pixel_for_nn":
        return (x + half) / s
    if mode == "pytorch_half_pixel" and out <= 1:
        return np.zeros(out, np.float32)
    position = (x + half) / s - half
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(out) / (s * np.float32(size))
        centre = np.float32(size) / np.float32(2)
        return (centre * (one - adjustment) + (x + half) / s) - half
    return position


def nearest_index(positions: F32, size: int, rounding: str, upsampling: bool) -> NDArray[np.int32]:
    """Index of the nearest element, kept inside the operand. 'simple' is what Resize did before opset 11."""
    if rounding.startswith("round"):
        tie = np.floor(positions) + np.float32(0.5)
        positions = np.where(np.abs(positions - tie) < TIE, tie, positions)
    if rounding == "simple":
        index = np.trunc(positions) if upsampling else np.ceil(positions)
    elif rounding == "floor":
        index = np.floor(positions)
    elif rounding == "ceil":
        index = np.ceil(positions)
    elif rounding == "round_prefer_ceil":
        index = np.floor(positions + np.float32(0.5))
    else:  # round_prefer_floor
        index = np.ceil(positions - np.float32(0.5))
    return np.clip(index, 0, size - 1).astype(np.int32)


def linear_weights(positions: F32, size: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(index [2, O], weight [2, O]): lower and upper neighbour, and their weights, which sum to 2**RESIZE_BITS."""
    inside = np.clip(positions, 0, size - 1)
    low = np.minimum(np.floor(inside), size - 1).astype(np.int32)
    high = np.minimum(low + 1, size - 1)
    upper = np.rint((inside - low) * (1 << RESIZE_BITS)).astype(np.int32)
    return np.stack([low, high]), np.stack([(1 << RESIZE_BITS) - upper, upper])


def _lower(lw: GraphBuilder, view: NodeView) -> None:
    if _mode(view) == "nearest":
        _lower_nearest(lw, view)
    else:
        _lower_linear(lw, view)


def _lower_nearest(lw: GraphBuilder, view: NodeView) -> None:
    x = lw.operand(view, 0)
    mode, rounding = _coordinates(view), _rounding(view)
    for axis, (size, out, scale) in enumerate(zip(c.shape_of(view), c.result_shape(view), scales_of(view), strict=True)):
        if out != size or abs(scale - 1) > TIE:
            index = nearest_index(source_positions(size, out, scale, mode), size, rounding, scale >= 1)
            x = lw.taken(x, axis, index)
    lw.copy(ir.Reshape, x, lw.result(view))


def _lower_linear(lw: GraphBuilder, view: NodeView) -> None:
    shape, out, scales = c.as_image(c.shape_of(view)), c.as_image(c.result_shape(view)), scales_of(view)
    pair = scales[2:] if len(scales) == 4 else (1.0, scales[2])
    mode = _coordinates(view)
    constants: dict[str, str] = {}
    for name, axis, scale in (("h", 2, pair[0]), ("w", 3, pair[1])):
        index, weight = linear_weights(source_positions(shape[axis], out[axis], scale, mode), shape[axis])
        constants |= {f"index_{name}": lw.constant(index, "index"), f"weight_{name}": lw.constant(weight, "resize_weight")}
    x = lw.reshaped(lw.operand(view, 0), shape)
    y = lw.reshaped_result(view, out)
    multiplier = float(np.float32(lw.quant(x).scale / (lw.quant(y.name).scale * (1 << (2 * RESIZE_BITS)))))
    lw.emit(ir.ResizeLinear, (x,), y.name, **constants, multiplier=multiplier, epilogue=lw.epilogue(y.name))
    y.close()


def _nearest_codes(proto: NodeProto) -> tuple[int, ...]:
    """Those of the operand, unless it mixes neighbours, or brings in a number where it looks beyond the image."""
    cropped = attribute(proto, "coordinate_transformation_mode", b"half_pixel") == b"tf_crop_and_resize"
    return (0,) if attribute(proto, "mode", b"nearest") == b"nearest" and not cropped else ()


def _roles(view: NodeView) -> tuple[Role, ...]:
    return c.data_first(view)


register(
    Operator(
        onnx=("Resize", "Upsample"),
        constraints=(*c.BASIC, c.parameters_constant, known_mode, known_coordinates, no_antialias, linear_axes),
        roles=_roles,
        lower=_lower,
        scale=Scale.COPY,
        accumulates=lambda view: _mode(view) == "linear",
        continues=always,
        prepares=always,
        copied_codes=_nearest_codes,
    )
)
