"""Convolutions and matrix products: QLinearConv, QLinearMatMul, QGemm."""

import numpy as np

from axforge.axcompiler.check.qoperators.base import MICROSOFT, REWRITES, FloatForm, IntegerTensor, Unreadable
from axforge.axcompiler.check.qoperators.channels_last import moved


@REWRITES(("", "QLinearConv"), (MICROSOFT, "QLinearConv"))
def conv(draft: FloatForm) -> None:
    """x, s, z, w, s, z, s_y, z_y, bias (int32 at s_x * s_w) -> Conv."""
    weight = draft.real(draft.code(3), axis=0)
    inputs = [weight, *bias(draft, 8, draft.given(1), draft.given(4))]

    def body(x: str) -> str:
        attributes = draft.attributes("channels_last")
        return draft.add("Conv", [x, *inputs], f"{draft.node.output[0]}_real", draft.node.name, **attributes)

    draft.result(moved(draft, draft.code(0), body, (draft.given(6), draft.given(7))), 6)


@REWRITES(("", "QLinearMatMul"))
def matmul(draft: FloatForm) -> None:
    """a, s, z, b, s, z, s_y, z_y -> MatMul. Where b is constant it may have a scale for each column."""
    b = draft.net.constant(draft.given(3))
    operands = [draft.real(draft.code(0)), draft.real(draft.code(3), axis=None if b is None else b.ndim - 1)]
    draft.result(draft.add("MatMul", operands, f"{draft.node.output[0]}_real", draft.node.name), 6)


@REWRITES((MICROSOFT, "QGemm"))
def gemm(draft: FloatForm) -> None:
    """a, s, z, b, s, z, c (int32 at alpha * s_a * s_b), s_y, z_y -> Gemm; without s_y the result is float32."""
    attributes = draft.attributes()
    axis = 0 if attributes.get("transB", 0) else 1
    alpha = float(attributes.get("alpha", 1.0))
    inputs = [draft.real(draft.code(0)), draft.real(draft.code(3), axis=axis)]
    inputs += bias(draft, 6, draft.given(1), draft.given(4), alpha)
    if draft.given(7):
        draft.result(draft.add("Gemm", inputs, f"{draft.node.output[0]}_real", draft.node.name, **attributes), 7)
    else:
        draft.finish("Gemm", inputs, **attributes)


@REWRITES((MICROSOFT, "MatMulIntegerToFloat"))
def matmul_to_float(draft: FloatForm) -> None:
    """a, b, s_a, s_b, z_a, z_b, bias (float32) -> MatMul and Add."""
    b = draft.net.constant(draft.given(1))
    operands = [
        draft.real(IntegerTensor(draft.given(0), draft.given(2), draft.given(4))),
        draft.real(IntegerTensor(draft.given(1), draft.given(3), draft.given(5)), axis=None if b is None else b.ndim - 1),
    ]
    if not draft.given(6):
        draft.finish("MatMul", operands)
        return
    product = draft.add("MatMul", operands, f"{draft.node.output[0]}_product", draft.node.name)
    draft.finish("Add", [product, draft.given(6)])


def bias(draft: FloatForm, i: int, x_scale: str, w_scale: str, factor: float = 1.0) -> list[str]:
    """Input i, int32 codes at the scale of the products, dequantized; nothing if it is left out."""
    name = draft.given(i)
    if not name:
        return []
    codes = draft.value(name, "bias")
    if codes.dtype != np.int32 or codes.size != codes.shape[-1]:
        raise Unreadable("its bias is not one row of int32")
    flat = name if codes.ndim == 1 else draft.constant(f"{name}_row", codes.reshape(-1))
    scale = draft.value(x_scale, "scale") * draft.value(w_scale, "scale").reshape(-1) * np.float32(factor)
    if scale.dtype != np.float32 or scale.size not in (1, codes.size):
        raise Unreadable("its bias has another length than the scales of its weight")
    full = np.ascontiguousarray(np.broadcast_to(scale.reshape(-1), (codes.size,)))
    return [draft.real(IntegerTensor(flat, draft.constant(f"{name}_scale", full)), axis=0)]
