"""Operators of onnxruntime that take images as [N, H, W, C] (`channels_last`), between two Transposes."""

from collections.abc import Callable

from axforge.axcompiler.check.qoperators.base import FloatForm, IntegerTensor, Unreadable
from axforge.axcompiler.onnx_graph.net import attribute


def moved(draft: FloatForm, operand: IntegerTensor, body: Callable[[str], str], result: tuple[str, str]) -> str:
    """`body` of the operand, in [N, C, H, W]; its result in the layout of the node. result: names of its scale and zero point."""
    x = draft.real(operand)
    if not attribute(draft.node, "channels_last", 0):
        return body(x)
    rank = _rank(draft)
    before = draft.add("Transpose", [x], f"{x}_nchw", perm=[0, rank - 1, *range(1, rank - 1)])
    inside = body(draft.requantized(before, operand.scale, operand.zero))
    return draft.add("Transpose", [draft.requantized(inside, *result)], f"{inside}_nhwc", perm=[0, *range(2, rank), 1])


def _rank(draft: FloatForm) -> int:
    """How many axes the operand has: those of the weight, or of the window and two more."""
    kernel = attribute(draft.node, "kernel_shape")
    if kernel is not None:
        return len(kernel) + 2
    weight = draft.net.constant(draft.given(3)) if draft.node.op_type == "QLinearConv" else None
    if weight is None:
        raise Unreadable("the number of its axes is not known")
    return weight.ndim
