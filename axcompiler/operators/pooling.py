"""Pooling over windows of one or two spatial axes, and over whole images."""

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import Operator, Scale, always, register

#: a window with more elements is summed by ReduceSum, which keeps no table of window sizes
LARGEST_WINDOW = 1 << 14


def no_dilations(view: NodeView) -> bool:
    """Average pooling has no dilations."""
    return set(c.spatial(view, "dilations")) == {1}


def window_fits(view: NodeView) -> bool:
    """A window has at most 16,384 elements."""
    return c.product(c.ints(view, "kernel_shape") or ()) <= LARGEST_WINDOW


def image(view: NodeView) -> bool:
    """The operand must have spatial axes."""
    return len(c.shape_of(view)) >= 3


def _lower_max_pool(lw: GraphBuilder, view: NodeView) -> None:
    kernel = c.ints(view, "kernel_shape") or ()
    before, after = c.window_pads(view, kernel)
    x = lw.reshaped(lw.operand(view, 0), c.as_image(c.shape_of(view)))
    y = lw.reshaped_result(view, c.as_image(c.result_shape(view)))
    lw.copy(
        ir.MaxPool,
        x,
        y.name,
        kernel=c.pair(kernel),
        strides=c.pair(c.spatial(view, "strides")),
        dilations=c.pair(c.spatial(view, "dilations")),
        pads=c.four_pads(before, after),
    )
    y.close()


def _lower_average_pool(lw: GraphBuilder, view: NodeView) -> None:
    kernel = c.ints(view, "kernel_shape") or ()
    before, after = c.window_pads(view, kernel)
    x = lw.reshaped(lw.operand(view, 0), c.as_image(c.shape_of(view)))
    counted = (0,) * len(before), (0,) * len(after)
    if c.attribute(view, "count_include_pad", 0):
        # zeros that count are part of the image; only what ceil_mode reads beyond them is not
        given = c.window_pads(view, kernel) if c.attribute(view, "auto_pad", "NOTSET") != "NOTSET" else _explicit(view)
        counted = given
        x = lw.padded(x, c.four_pads(*counted), lw.quant(x).zero_point)
    rest = tuple(p - q for p, q in zip(before, counted[0], strict=True)), tuple(p - q for p, q in zip(after, counted[1], strict=True))
    y = lw.reshaped_result(view, c.as_image(c.result_shape(view)))
    _average(lw, x, y.name, c.pair(kernel), c.pair(c.spatial(view, "strides")), c.four_pads(*rest))
    y.close()


def _explicit(view: NodeView) -> tuple[tuple[int, ...], tuple[int, ...]]:
    pads, rank = c.spatial_pads(view), c.window_rank(view)
    return pads[:rank], pads[rank:]


def _average(lw: GraphBuilder, x: str, y: str, kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, int, int, int]) -> None:
    ratio = lw.quant(x).scale / lw.quant(y).scale
    table = (ratio / np.arange(1, kernel[0] * kernel[1] + 1)).astype(np.float32)
    multiplier = lw.constant(table, "multiplier")
    lw.emit(ir.AveragePool, (x,), y, kernel=kernel, strides=strides, pads=pads, multiplier=multiplier, epilogue=lw.epilogue(y))


def _lower_global_average(lw: GraphBuilder, view: NodeView) -> None:
    shape = c.shape_of(view)
    area = c.product(shape[2:])
    x, y = lw.operand(view, 0), lw.result(view)
    if len(shape) == 4 and area <= LARGEST_WINDOW:
        _average(lw, x, y, (shape[2], shape[3]), (1, 1), (0, 0, 0, 0))
        return
    multiplier = float(np.float32(lw.quant(x).scale / lw.quant(y).scale / area))
    axes = tuple(range(2, len(shape)))
    lw.emit(ir.ReduceSum, (x,), y, axes=axes, keepdims=True, multiplier=multiplier, epilogue=lw.epilogue(y))


def _lower_global_max(lw: GraphBuilder, view: NodeView) -> None:
    axes = tuple(range(2, len(c.shape_of(view))))
    lw.copy(ir.ReduceMax, lw.operand(view, 0), lw.result(view), axes=axes, keepdims=True)


register(
    Operator(
        onnx=("MaxPool",),
        constraints=(*c.BASIC, c.one_or_two_spatial_axes, c.one_result, c.pads_not_negative),
        roles=c.data_first,
        lower=_lower_max_pool,
        scale=Scale.COPY,
        selects=True,
        continues=always,
        prepares=always,
        copied_codes=lambda proto: (0,) if len(proto.output) == 1 else (),
    )
)
register(
    Operator(
        onnx=("AveragePool",),
        constraints=(*c.BASIC, c.one_or_two_spatial_axes, c.pads_not_negative, no_dilations, window_fits),
        roles=c.data_first,
        lower=_lower_average_pool,
        accumulates=always,
        continues=always,
        prepares=always,
    )
)
register(
    Operator(
        onnx=("GlobalAveragePool",),
        constraints=(*c.BASIC, image),
        roles=c.data_first,
        lower=_lower_global_average,
        accumulates=always,
        continues=always,
        prepares=always,
    )
)
register(
    Operator(
        onnx=("GlobalMaxPool",),
        constraints=(*c.BASIC, image),
        roles=c.data_first,
        lower=_lower_global_max,
        scale=Scale.COPY,
        selects=True,
        continues=always,
        prepares=always,
    )
)
