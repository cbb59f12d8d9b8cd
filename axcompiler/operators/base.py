"""The shape of an operator's description, and the registry that check, quantize and optimize ask.

A constraint is a function whose docstring is the sentence a user reads when it fails, and the row in docs/operators.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.onnx_graph.views import NodeView


class Role(Enum):
    """What an input of a quantized operator is."""

    ACTIVATION = "activation"  # int8, per tensor (a constant operand too)
    WEIGHT = "weight"  # int8, symmetric, per output channel
    BIAS = "bias"  # int32 at s_x * s_w[c]
    PARAMETER = "parameter"  # shapes, axes, scales: not quantized


class Scale(Enum):
    """How the scale of an operator's result relates to that of its operands."""

    OWN = "own"  # a range of its own
    COPY = "copy"  # codes are copied: result and operands share one scale and zero point
    JOIN = "join"  # concat: one common scale, or a table an operand where that costs accuracy


Constraint = Callable[[NodeView], bool]


@dataclass(frozen=True)
class Operator:
    """One ONNX operator (or several that are described alike).

    roles(view): a Role for each input. weight_axis(view): axis of the weight that holds output channels.
    lower(lowering, view): appends IR operators for the node to `lowering` (see lowering/builder.py).
    fixed_range: (lo, hi) of the result in real numbers where the operator itself bounds it (softmax: 0, 1), else None.
    activation: whether it is a one-input function that fuses into what makes its operand (Relu, Clip) as bounds or as a table.
    accumulates(view): whether its result passes through an accumulator, so that a Relu or Clip after it costs nothing.
    """

    onnx: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    roles: Callable[[NodeView], tuple[Role, ...]]
    lower: Callable[[GraphBuilder, NodeView], None]
    scale: Scale = Scale.OWN
    weight_axis: Callable[[NodeView], int] = field(default=lambda view: 0)
    fixed_range: tuple[float, float] | None = None
    activation: bool = False
    accumulates: Callable[[NodeView], bool] = field(default=lambda view: False)


_REGISTRY: dict[str, Operator] = {}


def register(operator: Operator) -> Operator:
    """Add a description; each ONNX name has one."""
    for name in operator.onnx:
        assert name not in _REGISTRY, name
        _REGISTRY[name] = operator
    return operator


def find(op_type: str, domain: str = "") -> Operator | None:
    """The description of an ONNX operator, or None if the AIPU has no operator for it."""
    return _REGISTRY.get(op_type) if domain in ("", "ai.onnx") else None


def refusal(view: NodeView) -> str | None:
    """Why the AIPU cannot run this node, as a sentence; None if it can."""
    operator = find(view.op_type, view.domain)
    if operator is None:
        return f"the AIPU has no operator for {view.op_type}"
    for constraint in operator.constraints:
        if not constraint(view):
            return (constraint.__doc__ or constraint.__name__).strip().splitlines()[0]
    return None


def registered() -> dict[str, Operator]:
    """All descriptions by ONNX name, sorted."""
    return dict(sorted(_REGISTRY.items()))


def scalar(value: NDArray[Any] | None) -> float | None:
    """The number in a constant of one element, else None."""
    return float(np.asarray(value).reshape(-1)[0]) if value is not None and np.size(value) == 1 else None
