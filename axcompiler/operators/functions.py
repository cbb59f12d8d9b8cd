"""Functions of one operand: a table of 256 entries, whatever the function.

Such nodes are lowered as parts of one-input regions (`placement/regions.py`), never one by one; this module says when a single node
is one, and which operators may be part of a region.
"""

import math

from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import Bounds, Operator, Part, elementwise, register, scalar

_INF = math.inf


def _identity(view: NodeView) -> Bounds:
    return (-_INF, _INF)


def _relu(view: NodeView) -> Bounds:
    return (0.0, _INF)


def _clip(view: NodeView) -> Bounds | None:
    ends = [float(view.attributes.get("min", -_INF)), float(view.attributes.get("max", _INF))]
    for i in (1, 2):
        if i < len(view.inputs) and view.inputs[i]:
            number = scalar(view.constant(i))
            if number is None:
                return None
            ends[i - 1] = number
    return (min(ends[0], ends[1]), ends[1])  # a minimum above the maximum: the maximum wins, as in ONNX


def _min(view: NodeView) -> Bounds | None:
    number = _other_number(view)
    return None if number is None else (-_INF, number)


def _max(view: NodeView) -> Bounds | None:
    number = _other_number(view)
    return None if number is None else (number, _INF)


def _other_number(view: NodeView) -> float | None:
    """The constant number beside the one operand that varies."""
    known = [n for i in range(len(view.inputs)) if (n := scalar(view.constant(i))) is not None]
    return known[0] if len(view.inputs) == 2 and len(known) == 1 else None


#: functions of one operand (a second one, if any, is a constant number), each a table on the AIPU
_PLAIN = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Log", "Neg"),
    *("Reciprocal", "Round", "Shrink", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu"),
)
_ACTIVATIONS = ("Celu", "Elu", "Gelu", "HardSwish", "LeakyRelu", "Mish", "Selu", "Swish")
_GATES = ("HardSigmoid", "Sigmoid")

elementwise(*_PLAIN)
elementwise(*_ACTIVATIONS, "PRelu", part=Part.ACTIVATION)
elementwise(*_GATES, part=Part.GATE)
elementwise("Relu", part=Part.ACTIVATION, clips=_relu)
elementwise("Clip", part=Part.ACTIVATION, clips=_clip)
elementwise("Identity", clips=_identity)
elementwise("Min", clips=_min)
elementwise("Max", clips=_max)
#: functions of several operands that may meet inside a region
elementwise("Pow", "Mod", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or", "Xor", "Not", "Where", "Cast")
elementwise("IsNaN", "IsInf")


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
        onnx=(*_PLAIN, *_ACTIVATIONS, *_GATES, "Clip", "Relu"),
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
