"""Functions of one operand: a table of 256 entries, whatever the function.

Such nodes are lowered as parts of one-input regions (`regions.py`), never one by one; what stands here says when a single
node is one.
"""

from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import Operator, register, scalar

#: functions of one operand (a second one, if any, is a constant number)
_UNARY_NAMES = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Log "
    "Mish Neg Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
UNARY = frozenset(_UNARY_NAMES.split())
#: functions of several operands that may meet inside a region
_JOINING_NAMES = (
    "Add Sub Mul Div Pow Min Max Sum Mean PRelu Greater GreaterOrEqual Less LessOrEqual Equal And Or Xor Not Where Cast IsNaN IsInf Mod"
)
JOINING = frozenset(_JOINING_NAMES.split())


def numbers(view: NodeView) -> bool:
    """Operands beside the first must be constant numbers."""
    return all(not name or scalar(view.constants.get(name)) is not None for name in view.inputs[1:])


def one_varies(view: NodeView) -> bool:
    """All operands but one must be constant numbers."""
    varying = {name for name in view.inputs if name and name not in view.constants}
    return len(varying) == 1 and all(scalar(view.constants[n]) is not None for n in view.inputs if n in view.constants)


def _lower(lw: GraphBuilder, view: NodeView) -> None:
    source = next(name for name in view.inputs if name and name not in view.constants)
    lw.function((view,), source, view.outputs[0])


register(
    Operator(
        onnx=tuple(sorted(UNARY - {"Identity"})),
        constraints=(*c.BASIC, numbers),
        roles=c.data_first,
        lower=_lower,
        activation=True,
    )
)
register(
    Operator(
        onnx=("Max", "Min", "Mod", "PRelu", "Pow"),
        constraints=(c.all_float32, c.static, one_varies, c.not_empty, c.ranks),
        roles=lambda view: c.data_first(view),
        lower=_lower,
        activation=True,
    )
)
