"""Convolution and transposed convolution, over one or two spatial axes. A 1-D one works on images of height 1."""

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.lowering.builder import GraphBuilder, PendingResult
from axforge.axcompiler.numerics import MAX_REDUCTION
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import F64, Operator, Role, always, constant_factor, counts, register


def constant_weight(view: NodeView) -> bool:
    """The weight must be constant."""
    return view.constant(1) is not None


def constant_bias(view: NodeView) -> bool:
    """The bias must be constant."""
    return len(view.inputs) < 3 or not view.inputs[2] or view.constant(2) is not None


def sum_fits(view: NodeView) -> bool:
    """One result may sum at most 65,792 products, so that 32 bits hold it."""
    weight = c.shape_of(view, 1)
    summed = weight[1:] if view.op_type == "Conv" else (weight[0] // _groups(view), *weight[2:])
    return c.product(summed) <= MAX_REDUCTION


def crop_inside(view: NodeView) -> bool:
    """The padding of a transposed convolution must not be negative after output_shape and auto_pad are resolved."""
    before, after, _ = _transpose_pads(view)
    return all(p >= 0 for p in (*before, *after))


def _roles(view: NodeView) -> tuple[Role, ...]:
    return (Role.ACTIVATION, Role.WEIGHT, Role.BIAS)[: len(view.inputs)]


def _groups(view: NodeView) -> int:
    return int(c.attribute(view, "group", 1))


@counts("Conv", "ConvInteger")
def _conv_work(view: NodeView) -> int:
    """A window of the weight for each result."""
    return c.product(c.result_shape(view)) * c.product(c.shape_of(view, 1)[1:])


@counts("QLinearConv")
def _codes_work(view: NodeView) -> int:
    """That of a Conv, whose weight is the fourth operand."""
    return c.product(c.result_shape(view)) * c.product(c.shape_of(view, 3)[1:])


@counts("ConvTranspose")
def _transpose_work(view: NodeView) -> int:
    """A window of the weight for each element of the operand."""
    return c.product(c.shape_of(view)) * c.product(c.shape_of(view, 1)[1:])


def _lower_conv(lw: GraphBuilder, view: NodeView) -> None:
    weight = lw.weight(view, 1, axis=0)
    kernel = weight.codes.shape[2:]
    before, after = c.window_pads(view, kernel)
    x, y = _images(lw, view)
    lw.emit(
        ir.Conv,
        (x,),
        y.name,
        weight=lw.constant(weight.codes.reshape(*weight.codes.shape[:2], *c.pair(kernel)), "weight"),
        **lw.accumulator(view, x, y.name, weight.scales, weight.terms),
        strides=c.pair(c.spatial(view, "strides")),
        dilations=c.pair(c.spatial(view, "dilations")),
        pads=c.four_pads(before, after),
        groups=_groups(view),
    )
    y.close()


def _images(lw: GraphBuilder, view: NodeView) -> tuple[str, PendingResult]:
    """The operand with four axes, and where a result with four axes goes."""
    x = lw.reshaped(lw.operand(view, 0), c.as_image(c.shape_of(view)))
    return x, lw.reshaped_result(view, c.as_image(c.result_shape(view)))


def _transpose_pads(view: NodeView) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(before, after, output_padding) per spatial axis that give the inferred result's size."""
    rank = c.window_rank(view)
    kernel = c.shape_of(view, 1)[2:]
    strides, dilations, extra = c.spatial(view, "strides"), c.spatial(view, "dilations"), c.spatial(view, "output_padding", 0)
    size = c.shape_of(view)[2:]
    full = [(n - 1) * s + (k - 1) * d + 1 + e for n, s, k, d, e in zip(size, strides, kernel, dilations, extra, strict=True)]
    surplus = [f - o for f, o in zip(full, c.result_shape(view)[2:], strict=True)]
    mode = c.attribute(view, "auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID") and "output_shape" not in view.attributes:
        pads = c.spatial_pads(view) if mode == "NOTSET" else (0,) * (2 * rank)
        return pads[:rank], pads[rank:], extra
    grow = [max(-s, 0) for s in surplus]  # a result larger than what the windows cover: more output padding
    cut = [max(s, 0) for s in surplus]
    small, large = tuple(s // 2 for s in cut), tuple(s - s // 2 for s in cut)
    grown = tuple(e + g for e, g in zip(extra, grow, strict=True))
    return (small, large, grown) if mode == "SAME_UPPER" else (large, small, grown)


def _lower_conv_transpose(lw: GraphBuilder, view: NodeView) -> None:
    weight = lw.weight(view, 1, axis=1)
    kernel, groups = weight.codes.shape[2:], _groups(view)
    before, after, extra = _transpose_pads(view)
    x, y = _images(lw, view)
    lw.emit(
        ir.ConvTranspose,
        (x,),
        y.name,
        weight=lw.constant(weight.codes.reshape(*weight.codes.shape[:2], *c.pair(kernel)), "weight"),
        **lw.accumulator(view, x, y.name, np.tile(weight.scales, groups), weight.terms),
        strides=c.pair(c.spatial(view, "strides")),
        dilations=c.pair(c.spatial(view, "dilations")),
        pads=c.four_pads(before, after),
        output_padding=c.pair(extra, 0),
        groups=groups,
    )
    y.close()


def _mean_shift(view: NodeView, error: F64, mean: F64) -> F64:
    summed = error.reshape(*error.shape[:2], -1).sum(axis=2).reshape(_groups(view), -1, error.shape[1])
    return np.einsum("gmc,gc->gm", summed, mean.reshape(_groups(view), -1)).reshape(-1)


_COMMON = (*c.BASIC, c.one_or_two_spatial_axes, constant_weight, constant_bias, sum_fits)

register(
    Operator(
        onnx=("Conv",),
        constraints=(*_COMMON, c.pads_not_negative),
        roles=_roles,
        lower=_lower_conv,
        accumulates=always,
        multiplies=constant_factor,
        single_row=lambda view: c.shape_of(view, 1)[0] == 1,
        channel_axis=lambda view: 1,
        channel_groups=_groups,
        mean_shift=_mean_shift,
    )
)
register(
    Operator(
        onnx=("ConvTranspose",),
        constraints=(*_COMMON, crop_inside),
        roles=_roles,
        lower=_lower_conv_transpose,
        weight_axis=lambda view: 1,
        weight_groups=_groups,
        accumulates=always,
        multiplies=constant_factor,
        channel_axis=lambda view: 1,
    )
)
