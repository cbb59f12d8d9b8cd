"""Sums, products, functions of one tensor, concatenation and selection on codes."""

from axforge.axcompiler.check.qoperators.base import MICROSOFT, REWRITES, FloatForm, IntegerTensor, Unreadable


def _two(draft: FloatForm, op_type: str) -> None:
    operands = [draft.real(draft.code(0)), draft.real(draft.code(3))]
    draft.result(draft.add(op_type, operands, f"{draft.node.output[0]}_real", draft.node.name), 6)


@REWRITES((MICROSOFT, "QLinearAdd"))
def add(draft: FloatForm) -> None:
    """a, s, z, b, s, z, s_y, z_y -> Add."""
    _two(draft, "Add")


@REWRITES((MICROSOFT, "QLinearMul"))
def multiply(draft: FloatForm) -> None:
    """a, s, z, b, s, z, s_y, z_y -> Mul."""
    _two(draft, "Mul")


def _one(draft: FloatForm, op_type: str) -> None:
    real = draft.add(op_type, [draft.real(draft.code(0))], f"{draft.node.output[0]}_real", draft.node.name, **draft.attributes())
    draft.result(real, 3)


@REWRITES((MICROSOFT, "QLinearSigmoid"))
def sigmoid(draft: FloatForm) -> None:
    """x, s, z, s_y, z_y -> Sigmoid."""
    _one(draft, "Sigmoid")


@REWRITES((MICROSOFT, "QLinearLeakyRelu"))
def leaky_relu(draft: FloatForm) -> None:
    """x, s, z, s_y, z_y -> LeakyRelu."""
    _one(draft, "LeakyRelu")


@REWRITES((MICROSOFT, "QLinearConcat"))
def concat(draft: FloatForm) -> None:
    """s_y, z_y, then a, s, z of each operand -> Concat."""
    if len(draft.node.input) % 3 != 2:
        raise Unreadable("an operand lacks its scale or zero point")
    operands = [draft.real(draft.code(i)) for i in range(2, len(draft.node.input), 3)]
    draft.result(draft.add("Concat", operands, f"{draft.node.output[0]}_real", draft.node.name, **draft.attributes()), 0)


@REWRITES((MICROSOFT, "QLinearWhere"))
def where(draft: FloatForm) -> None:
    """condition, a, s, z, b, s, z, s_y, z_y -> Where."""
    operands = [draft.given(0), draft.real(draft.code(1)), draft.real(draft.code(4))]
    draft.result(draft.add("Where", operands, f"{draft.node.output[0]}_real", draft.node.name), 7)


@REWRITES((MICROSOFT, "QLinearSoftmax"))
def softmax(draft: FloatForm) -> None:
    """x, s, z, s_y, z_y -> Softmax. Below opset 13 it is one of all axes from `axis` on, between two changes of shape."""
    given = draft.attributes()
    axis, scale = int(given.get("axis", -1)), (draft.given(3), draft.given(4))
    x = draft.real(draft.code(0))
    if int(given.get("opset", 13)) >= 13 or axis == -1:
        draft.result(draft.add("Softmax", [x], f"{draft.node.output[0]}_real", draft.node.name, axis=axis), 3)
        return
    operand = IntegerTensor(*draft.node.input[:3])
    shape = draft.add("Shape", [draft.given(0)], f"{x}_shape")
    flat = draft.requantized(draft.add("Flatten", [x], f"{x}_flat", axis=axis), operand.scale, operand.zero)
    inner = draft.requantized(draft.add("Softmax", [flat], f"{x}_softmax", draft.node.name, axis=-1), *scale)
    draft.result(draft.add("Reshape", [inner, shape], f"{draft.node.output[0]}_real"), 3)
