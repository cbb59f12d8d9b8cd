"""Sums and products of two operands, with broadcasting. An operand may be a constant; a constant number makes a function of
one operand out of any of them, see `functions.py`."""

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import Operator, Part, Role, elementwise, never, nothing_constant, register


def constant_divisor(view: NodeView) -> bool:
    """The divisor must be constant and without zeros."""
    value = view.constant(1)
    return value is not None and bool(np.all(value != 0))


def one_or_two(view: NodeView) -> bool:
    """At most two operands are added at a time."""
    return len(view.inputs) <= 2


def _lower_add(lw: GraphBuilder, view: NodeView) -> None:
    _sum(lw, view, 1)


def _lower_sub(lw: GraphBuilder, view: NodeView) -> None:
    _sum(lw, view, -1)


def _sum(lw: GraphBuilder, view: NodeView, sign: int) -> None:
    a, b, y = lw.operand(view, 0), lw.operand(view, 1), lw.result(view)
    multipliers = (lw.ratio(a, y), sign * lw.ratio(b, y))
    lw.emit(ir.Add, (a, b), y, multipliers=multipliers, epilogue=lw.epilogue(y))


def _lower_mul(lw: GraphBuilder, view: NodeView) -> None:
    a, b, y = lw.operand(view, 0), lw.operand(view, 1), lw.result(view)
    lw.emit(ir.Mul, (a, b), y, multiplier=lw.product_scale(a, b, y), epilogue=lw.epilogue(y))


def _lower_div(lw: GraphBuilder, view: NodeView) -> None:
    divisor = view.constant(1)
    assert divisor is not None
    a, y = lw.operand(view, 0), lw.result(view)
    b = lw.constant_operand(np.float32(1) / divisor.astype(np.float32), "reciprocal")
    lw.emit(ir.Mul, (a, b), y, multiplier=lw.product_scale(a, b, y), epilogue=lw.epilogue(y))


def _lower_sum(lw: GraphBuilder, view: NodeView) -> None:
    if len(view.inputs) == 1:
        lw.copy(ir.Reshape, lw.operand(view, 0), lw.result(view))
    else:
        _sum(lw, view, 1)


def _div_roles(view: NodeView) -> tuple[Role, ...]:
    return (Role.ACTIVATION, Role.PARAMETER)


for _names, _extra, _lower, _continues in (
    ("Add", (), _lower_add, nothing_constant),
    ("Sub", (), _lower_sub, nothing_constant),
    ("Mul", (), _lower_mul, never),
    ("Sum", (one_or_two,), _lower_sum, never),
):
    register(
        Operator(
            onnx=(_names,),
            constraints=(*c.BASIC_ALL, *_extra),
            roles=c.all_data,
            lower=_lower,
            accumulates=lambda view: len(view.inputs) == 2,
            continues=_continues,
            sums=_lower in (_lower_add, _lower_sum),
        )
    )
elementwise("Add", "Sub", "Div", "Sum", "Mean")
elementwise("Mul", part=Part.PRODUCT)
register(
    Operator(
        onnx=("Div",),
        constraints=(*c.BASIC_ALL, constant_divisor),
        roles=_div_roles,
        lower=_lower_div,
        accumulates=lambda view: True,
    )
)
