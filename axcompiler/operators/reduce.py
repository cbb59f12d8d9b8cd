"""Sums, means and maxima over axes."""

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import Operator, Scale, always, register


def sum_fits(view: NodeView) -> bool:
    """At most 8,388,607 elements are summed, so that 32 bits hold it."""
    return c.product([c.shape_of(view)[a] for a in axes_of(view)]) < 2**23


def axes_of(view: NodeView) -> tuple[int, ...]:
    """The axes that are reduced, ascending: an attribute or an input; left out or empty means all (or none, if the node says so)."""
    rank = len(c.shape_of(view))
    axes = c.ints(view, "axes", 1)
    if axes:
        return c.normal_axes(axes, rank)
    return () if c.attribute(view, "noop_with_empty_axes", 0) else tuple(range(rank))


def _is_mean(view: NodeView) -> bool:
    return view.op_type == "ReduceMean"


def _lower_sum(lw: GraphBuilder, view: NodeView) -> None:
    axes = axes_of(view)
    count = c.product([c.shape_of(view)[a] for a in axes]) if _is_mean(view) else 1
    x, y = lw.operand(view, 0), lw.result(view)
    multiplier = float(np.float32(lw.quant(x).scale / lw.quant(y).scale / count))
    keep = bool(c.attribute(view, "keepdims", 1))
    lw.emit(ir.ReduceSum, (x,), y, axes=axes, keepdims=keep, multiplier=multiplier, epilogue=lw.epilogue(y))


def _lower_max(lw: GraphBuilder, view: NodeView) -> None:
    keep = bool(c.attribute(view, "keepdims", 1))
    lw.copy(ir.ReduceMax, lw.operand(view, 0), lw.result(view), axes=axes_of(view), keepdims=keep)


register(
    Operator(
        onnx=("ReduceMean", "ReduceSum"),
        constraints=(*c.BASIC, c.parameters_constant, sum_fits),
        roles=c.data_first,
        lower=_lower_sum,
        accumulates=always,
        continues=_is_mean,
        prepares=_is_mean,
    )
)
register(
    Operator(
        onnx=("ReduceMax",),
        constraints=(*c.BASIC, c.parameters_constant),
        roles=c.data_first,
        lower=_lower_max,
        scale=Scale.COPY,
        selects=True,
        continues=always,
        prepares=always,
    )
)
