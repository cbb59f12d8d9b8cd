"""The shape of an operator's description, and the registry that check, quantize and optimize ask.

A constraint is a function whose docstring is the sentence a user reads when it fails, and the row in docs/operators.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.numerics import Array
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
Fact = Callable[[NodeView], bool]
Work = Callable[[NodeView], int]
Bounds = tuple[float, float]
F64 = NDArray[np.float64]


def never(view: NodeView) -> bool:
    """A fact that holds for no node."""
    return False


def always(view: NodeView) -> bool:
    """A fact that holds for every node."""
    return True


def no_codes(proto: NodeProto) -> tuple[int, ...]:
    """It copies no codes."""
    return ()


def first_codes(proto: NodeProto) -> tuple[int, ...]:
    """Its codes are those of the first operand."""
    return (0,)


def constant_factor(view: NodeView) -> bool:
    """Whether one of the first two operands is constant."""
    return any(name in view.constants for name in view.inputs[:2])


def nothing_constant(view: NodeView) -> bool:
    """Whether no operand is constant."""
    return not any(name in view.constants for name in view.inputs)


def last_axis(view: NodeView) -> int:
    """The last axis of the first operand."""
    return len(view.shapes[view.inputs[0]]) - 1


@dataclass(frozen=True)
class Operator:
    """One ONNX operator, or several that are described alike: how the AIPU runs it, and the facts that other packages ask.

    How it is run:
    roles(view): a Role for each input. weight_axis(view): axis of the weight that holds output channels.
    weight_groups(view): how many times the channels of that axis repeat in the result. lower(builder, view): appends IR operators
    for the node (see lowering/builder.py). fixed_range: (lo, hi) of the result in real numbers where the operator itself bounds it
    (softmax: 0, 1), else None.
    activation: whether it is a function of one operand, which becomes a table or, where it only clips, bounds.
    accumulates(view): whether its result passes through an accumulator, so that a Relu or Clip after it costs nothing.

    Facts for placement:
    multiplies: whether the node is a layer, a product with constant weights; None for an operator that never is one.
    single_row(view): whether that product has one row of weights only, so that after a softmax it is the mean of a distribution.
    sums: whether it adds its operands.
    normalizes: whether it brings its elements to one mean and deviation.
    distribution: whether the results along an axis sum to 1. selects: whether, copying codes, it drops some by their value.
    keeps_rows(view): whether it copies whole rows of the last axis.
    continues(view): whether after the last layer it goes on in int8 with little loss. prepares(view): whether before the first layer
    it only rearranges the input.
    copied_codes(proto): the inputs from which its integer form in ONNX copies codes, so that it does to codes what its float form does to
    real numbers; () for any other.

    Facts for quantization:
    channel_axis(view): axis of the first operand that holds its channels.
    channel_groups(view): how many groups of channels do not meet, for a product with a weight [M, C / groups, ...]; None for any other.
    mean_shift(view, error, mean): what `error` in the weights, in their shape, adds to the mean of each output channel, if `mean` is that
    of each channel of the operand: [M]. None where the bias of the operator cannot be corrected.
    added_value(view): a number that the node brings into its result beside its operand's (padding); None if there is none.
    """

    onnx: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    roles: Callable[[NodeView], tuple[Role, ...]]
    lower: Callable[[GraphBuilder, NodeView], None]
    scale: Scale = Scale.OWN
    weight_axis: Callable[[NodeView], int] = field(default=lambda view: 0)
    weight_groups: Callable[[NodeView], int] = field(default=lambda view: 1)
    fixed_range: Bounds | None = None
    activation: bool = False
    accumulates: Fact = never
    multiplies: Fact | None = None
    single_row: Fact = never
    distribution: bool = False
    sums: bool = False
    normalizes: bool = False
    keeps_rows: Fact = never
    selects: bool = False
    continues: Fact = never
    prepares: Fact = never
    copied_codes: Callable[[NodeProto], tuple[int, ...]] = field(default=no_codes)
    channel_axis: Callable[[NodeView], int] = last_axis
    channel_groups: Callable[[NodeView], int] | None = None
    mean_shift: Callable[[NodeView, F64, F64], F64] | None = None
    added_value: Callable[[NodeView], float | None] = field(default=lambda view: None)


class Part(Enum):
    """What an element-wise operator usually is in a network."""

    FUNCTION = "function"  # anything
    ACTIVATION = "activation"  # what networks put after their layers
    GATE = "gate"  # what networks multiply by (Sigmoid in SiLU)
    PRODUCT = "product"  # the product with the gate


@dataclass(frozen=True)
class Elementwise:
    """An ONNX operator that may be part of a one-input region (placement/regions.py), with which a table of 256 entries can be filled.

    clips(view): (lo, hi) if the node does nothing but clip its operand, else None.
    """

    onnx: tuple[str, ...]
    part: Part = Part.FUNCTION
    clips: Callable[[NodeView], Bounds | None] = field(default=lambda view: None)


_REGISTRY: dict[str, Operator] = {}
_ELEMENTWISE: dict[str, Elementwise] = {}
_RANDOM: set[str] = set()
_STATES: dict[str, tuple[int, ...]] = {}
_WORK: dict[str, Work] = {}


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


def channel_groups(view: NodeView) -> int | None:
    """How many groups of channels do not meet in a convolution; None for any other node."""
    operator = find(view.op_type, view.domain)
    return operator.channel_groups(view) if operator is not None and operator.channel_groups is not None else None


def registered() -> dict[str, Operator]:
    """All descriptions by ONNX name, sorted."""
    return dict(sorted(_REGISTRY.items()))


def elementwise(*onnx: str, part: Part = Part.FUNCTION, clips: Callable[[NodeView], Bounds | None] | None = None) -> None:
    """Say that operators are element-wise, and what they are in a network."""
    entry = Elementwise(onnx, part) if clips is None else Elementwise(onnx, part, clips)
    for name in onnx:
        assert name not in _ELEMENTWISE, name
        _ELEMENTWISE[name] = entry


def find_elementwise(op_type: str, domain: str = "") -> Elementwise | None:
    """What is known of an element-wise ONNX operator, or None if it is not one."""
    return _ELEMENTWISE.get(op_type) if domain in ("", "ai.onnx") else None


def registered_elementwise() -> tuple[str, ...]:
    """The ONNX names of all element-wise operators, sorted."""
    return tuple(sorted(_ELEMENTWISE))


def counts(*onnx: str) -> Callable[[Work], Work]:
    """A decorator for the function that counts the multiply-adds of operators with these ONNX names, on the AIPU or not."""

    def register(work: Work) -> Work:
        for name in onnx:
            assert name not in _WORK, name
            _WORK[name] = work
        return work

    return register


def multiply_adds(view: NodeView) -> int:
    """How many products a node sums up; 0 for an operator that sums no products, and where one of its sizes is not known."""
    work = _WORK.get(view.op_type) if view.domain in ("", "ai.onnx") else None
    known = all(name in view.shapes for name in (*filter(None, view.inputs), *filter(None, view.outputs)))
    return work(view) if work is not None and known else 0


def recurrent(onnx: str, *states: int) -> None:
    """Say that an operator is recurrent, and which of its inputs hold the state that it begins with."""
    _STATES[onnx] = states


def state_inputs(op_type: str) -> tuple[int, ...]:
    """Which inputs of an ONNX operator hold the state that it begins with; () for one that is not recurrent."""
    return _STATES.get(op_type, ())


def random(*onnx: str) -> None:
    """Say that operators give another result each time."""
    _RANDOM.update(onnx)


def is_random(op_type: str) -> bool:
    """Whether an ONNX operator gives another result each time, so that it must not be computed in advance."""
    return op_type in _RANDOM


def scalar(value: Array | None) -> float | None:
    """The number in a constant of one element, else None."""
    return float(np.asarray(value).reshape(-1)[0]) if value is not None and np.size(value) == 1 else None
