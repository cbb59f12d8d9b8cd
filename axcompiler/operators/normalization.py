"""Layer normalization of the last axis, or of several last axes, which a reshape makes one."""

import numpy as np

from axforge.axcompiler.ir.ops.normalization import LayerNorm
from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.numerics import F32, MAX_NORMALIZED
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import Operator, always, register

#: the largest multiplier, offset or epsilon: what does not fit float32 is beyond every code anyway
_LARGEST = 3e38


def constant_parameters(view: NodeView) -> bool:
    """Scale and bias must be constant, finite and as large as the normalized axes."""
    return all(_fits(view, i) for i in range(1, len(view.inputs)) if view.inputs[i])


def row_fits(view: NodeView) -> bool:
    """At most 33,025 elements are normalized together, so that 32 bits hold the sum of their squares."""
    return c.product(_normalized(view)) <= MAX_NORMALIZED


def epsilon_not_negative(view: NodeView) -> bool:
    """epsilon must not be negative."""
    return _epsilon(view) >= 0


def _normalized(view: NodeView) -> tuple[int, ...]:
    """Sizes of the normalized axes."""
    shape = c.shape_of(view)
    return shape[c.normal_axis(int(c.attribute(view, "axis", -1)), len(shape)) :]


def _epsilon(view: NodeView) -> float:
    return float(c.attribute(view, "epsilon", 1e-5))


def _fits(view: NodeView, i: int) -> bool:
    value, axes = view.constant(i), _normalized(view)
    if value is None or not np.isfinite(value).all():
        return False
    lead = value.ndim - len(axes)
    return all(size == 1 for size in value.shape[: max(lead, 0)]) and value.shape[max(lead, 0) :] == axes[max(-lead, 0) :]


def _vector(view: NodeView, i: int, scale: float) -> F32:
    """Input i in units of the result's scale, an entry for each normalized element; 0 if it is left out."""
    value, axes = view.constant(i), _normalized(view)
    if value is None:
        return np.zeros(c.product(axes), np.float32)
    inner = value.reshape(value.shape[max(value.ndim - len(axes), 0) :])
    with np.errstate(over="ignore"):
        units = np.broadcast_to(inner, axes).reshape(-1).astype(np.float32) / np.float32(scale)
    return np.clip(units, -_LARGEST, _LARGEST).astype(np.float32)


def _lower(lw: GraphBuilder, view: NodeView) -> None:
    shape, axes = c.shape_of(view), _normalized(view)
    rows = (*shape[: len(shape) - len(axes)], c.product(axes))
    x = lw.reshaped(lw.operand(view, 0), rows)
    y = lw.reshaped_result(view, rows)
    scale = lw.quant(y.name).scale
    epsilon = min(_epsilon(view) * rows[-1] ** 2 / lw.quant(x).scale ** 2, _LARGEST)
    lw.emit(
        LayerNorm,
        (x,),
        y.name,
        multiplier=lw.constant(_vector(view, 1, scale), "scale"),
        offset=lw.constant(_vector(view, 2, scale), "bias"),
        epsilon=float(np.float32(epsilon)),
        epilogue=lw.epilogue(y.name),
    )
    y.close()


register(
    Operator(
        onnx=("LayerNormalization",),
        constraints=(*c.BASIC, c.one_result, constant_parameters, row_fits, epsilon_not_negative),
        roles=c.data_first,
        lower=_lower,
        accumulates=always,
        normalizes=True,
    )
)
