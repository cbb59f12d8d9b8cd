"""Matrix products: Gemm, and MatMul with a constant matrix or of two activations."""

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.numerics import MAX_REDUCTION
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import Operator, Role, always, constant_factor, counts, last_axis, register


def constant_matrix(view: NodeView) -> bool:
    """Operand B must be constant."""
    return view.constant(1) is not None


def bias_per_column(view: NodeView) -> bool:
    """Operand C must be a constant with one value, or one for each column."""
    if len(view.inputs) < 3 or not view.inputs[2]:
        return True
    value = view.constant(2)
    columns = c.result_shape(view)[-1]
    return value is not None and (value.size == 1 or value.shape in ((columns,), (1, columns)))


def alpha_positive(view: NodeView) -> bool:
    """alpha must be positive."""
    return float(c.attribute(view, "alpha", 1.0)) > 0


def sum_fits(view: NodeView) -> bool:
    """One result may sum at most 32,895 products of activations, or 65,792 with constants, so that 32 bits hold it."""
    a = c.shape_of(view)
    length = a[0] if view.op_type == "Gemm" and c.attribute(view, "transA", 0) else a[-1]
    return length <= (MAX_REDUCTION if _weight_matrix(view) else MAX_REDUCTION // 2)


def _weight_matrix(view: NodeView) -> bool:
    """Whether B is one constant matrix, [K, M] or [1, ..., 1, K, M]."""
    if view.constant(1) is None or not view.inputs[0] or view.constant(0) is not None:
        return False
    b, a = c.shape_of(view, 1), c.shape_of(view)
    return len(b) >= 2 and set(b[:-2]) <= {1} and len(b) <= max(len(a), 2)


@counts("MatMul", "MatMulInteger", "QLinearMatMul")
def _matmul_work(view: NodeView) -> int:
    """A row for each result."""
    return c.product(c.result_shape(view)) * c.shape_of(view)[-1]


@counts("Gemm")
def _gemm_work(view: NodeView) -> int:
    """A row for each result."""
    return c.product(c.result_shape(view)) * c.shape_of(view)[0 if c.attribute(view, "transA", 0) else -1]


def _gemm_roles(view: NodeView) -> tuple[Role, ...]:
    return (Role.ACTIVATION, Role.WEIGHT, Role.BIAS)[: len(view.inputs)]


def _matmul_roles(view: NodeView) -> tuple[Role, ...]:
    return (Role.ACTIVATION, Role.WEIGHT if _weight_matrix(view) else Role.ACTIVATION)


def _gemm_axis(view: NodeView) -> int:
    return 0 if c.attribute(view, "transB", 0) else 1


def _matmul_axis(view: NodeView) -> int:
    return len(c.shape_of(view, 1)) - 1


def _lower_gemm(lw: GraphBuilder, view: NodeView) -> None:
    weight = lw.weight(view, 1, _gemm_axis(view))
    codes = weight.codes if c.attribute(view, "transB", 0) else weight.codes.T
    scales = (weight.scales * np.float32(c.attribute(view, "alpha", 1.0))).astype(np.float32)
    x, y = lw.operand(view, 0), lw.result(view)
    if c.attribute(view, "transA", 0):
        x = lw.transposed(x, (1, 0))
    beta = float(c.attribute(view, "beta", 1.0))
    lw.emit(ir.FullyConnected, (x,), y, weight=lw.constant(codes, "weight"), **lw.accumulator(view, x, y, scales, weight.terms, beta=beta))


def _lower_matmul(lw: GraphBuilder, view: NodeView) -> None:
    if _weight_matrix(view):
        weight = lw.weight(view, 1, _matmul_axis(view))
        codes = weight.codes.reshape(weight.codes.shape[-2:]).T
        x, y = lw.operand(view, 0), lw.result(view)
        lw.emit(ir.FullyConnected, (x,), y, weight=lw.constant(codes, "weight"), **lw.accumulator(view, x, y, weight.scales, weight.terms))
    else:
        _lower_two_activations(lw, view)


def _lower_two_activations(lw: GraphBuilder, view: NodeView) -> None:
    a, b = lw.operand(view, 0), lw.operand(view, 1)
    sa, sb = c.shape_of(view), c.shape_of(view, 1)
    a = lw.reshaped(a, (1, *sa)) if len(sa) == 1 else a
    b = lw.reshaped(b, (*sb, 1)) if len(sb) == 1 else b
    y = lw.reshaped_result(view, _product_shape(lw, a, b))
    multiplier = lw.product_scale(a, b, y.name)
    lw.emit(ir.MatMul, (a, b), y.name, multiplier=multiplier, epilogue=lw.epilogue(y.name))
    y.close()


def _product_shape(lw: GraphBuilder, a: str, b: str) -> tuple[int, ...]:
    sa, sb = lw.shape(a), lw.shape(b)
    return (*np.broadcast_shapes(sa[:-2], sb[:-2]), sa[-2], sb[-1])


register(
    Operator(
        onnx=("Gemm",),
        constraints=(*c.BASIC, constant_matrix, bias_per_column, alpha_positive, sum_fits),
        roles=_gemm_roles,
        lower=_lower_gemm,
        weight_axis=_gemm_axis,
        accumulates=always,
        multiplies=constant_factor,
        channel_axis=lambda view: 0 if c.attribute(view, "transA", 0) else last_axis(view),
        mean_shift=lambda view, error, mean: error @ mean if c.attribute(view, "transB", 0) else mean @ error,
    )
)
register(
    Operator(
        onnx=("MatMul",),
        constraints=(*c.BASIC_ALL, sum_fits),
        roles=_matmul_roles,
        lower=_lower_matmul,
        weight_axis=_matmul_axis,
        accumulates=always,
        multiplies=constant_factor,
    )
)
