"""Softmax along one axis; in opsets below 13 along all axes from one on."""

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.numerics import SOFTMAX_BITS
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import Operator, always, register


def axis_fits(view: NodeView) -> bool:
    """The axis has at most 65,535 elements, so that 32 bits hold their sum."""
    inner, axis = _inner(view)
    return inner[axis] < 1 << (31 - SOFTMAX_BITS)


def _inner(view: NodeView) -> tuple[tuple[int, ...], int]:
    """The shape in which softmax is along one axis, and that axis."""
    shape = c.shape_of(view)
    if view.opset >= 13:
        return shape, c.normal_axis(int(c.attribute(view, "axis", -1)), len(shape))
    axis = c.normal_axis(int(c.attribute(view, "axis", 1)), len(shape))
    return (shape, axis) if axis == len(shape) - 1 else ((c.product(shape[:axis]), c.product(shape[axis:])), 1)


def _lower(lw: GraphBuilder, view: NodeView) -> None:
    shape, axis = _inner(view)
    x = lw.reshaped(lw.operand(view, 0), shape)
    y = lw.reshaped_result(view, shape)
    steps = np.exp(-np.arange(256, dtype=np.float64) * lw.quant(x).scale)
    exponent = lw.constant(np.rint(steps * (1 << SOFTMAX_BITS)).astype(np.int32), "exponent")
    multiplier = float(np.float32(1 / lw.quant(y.name).scale))
    lw.emit(ir.Softmax, (x,), y.name, axis=axis, exponent=exponent, multiplier=multiplier, epilogue=lw.epilogue(y.name))
    y.close()


register(
    Operator(
        onnx=("Softmax",),
        constraints=(*c.BASIC, axis_fits),
        roles=c.data_first,
        lower=_lower,
        fixed_range=(0.0, 1.0),
        accumulates=always,
        distribution=True,
    )
)
