"""What a quantization algorithm is.

An algorithm is a frozen dataclass in a file of its own in `algorithms/`; its fields are its options. It says which statistics it needs
on which tensors, calibration collects those of all algorithms together, and it is then applied in its phase:

    MODEL        float model ─► float model that computes the same; decided while calibrating, before anything else is measured
    ACTIVATIONS  ranges ─► a scale and zero point for every int8 activation
    LAYERS       weights and biases, after their rounding to integers
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, TypeVar

import onnx

from axforge.axcompiler.ir import Quant
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.quantize.layers import QuantizedLayer
from axforge.axcompiler.quantize.options import Choices
from axforge.axcompiler.statistics.artefacts import Decision, Statistics
from axforge.axcompiler.statistics.base import StatisticPoint


class Phase(IntEnum):
    """When algorithms are applied; those of one phase in the order of their names."""

    MODEL = 0
    ACTIVATIONS = 1
    LAYERS = 2


@dataclass
class Quantization:
    """A float model on its way to int8: what algorithms read, and fill in or change.

    activations: scale and zero point by tensor. layers: integer weights and biases by the tensor that the layer makes.
    """

    model: onnx.ModelProto
    plan: Plan
    activations: dict[str, Quant] = field(default_factory=dict)
    layers: dict[str, QuantizedLayer] = field(default_factory=dict)


@dataclass(frozen=True)
class Algorithm(ABC):
    """The part that all algorithms share. name: what configurations call it. on: whether it runs when no configuration names it."""

    name: ClassVar[str]
    phase: ClassVar[Phase]
    on: ClassVar[bool] = False

    def needs(self, plan: Plan) -> Iterable[StatisticPoint]:
        """The statistics it needs, and on which tensors of the model."""
        return ()


@dataclass(frozen=True)
class QuantizingAlgorithm(Algorithm):
    """An algorithm that chooses integers: of phase ACTIVATIONS or LAYERS."""

    @abstractmethod
    def apply(self, quantization: Quantization, statistics: Statistics) -> None:
        """Fill in or change the part of `quantization` that belongs to its phase."""


@dataclass(frozen=True)
class RewritingAlgorithm(Algorithm):
    """An algorithm that rewrites the float model without changing what it computes, so that it loses less in int8.

    It decides from statistics of a few samples, because what matters to it shows at once; the ranges of all tensors are then measured
    on the rewritten model. The decision is kept in ranges.json, so that the quantize stage rewrites the checked model alike.
    """

    phase: ClassVar[Phase] = Phase.MODEL

    @abstractmethod
    def decide(self, plan: Plan, statistics: Statistics) -> Decision:
        """What to rewrite, as plain lists of integers by tensor name; empty if nothing gains by it."""

    @abstractmethod
    def rewrite(self, model: onnx.ModelProto, decision: Decision) -> tuple[onnx.ModelProto, dict[str, tuple[str, ...]]]:
        """The rewritten model, and the names of the nodes that replace a node of the old one, where they differ.

        Raises KeyError or ValueError for a decision that is not about this model.
        """


_Kind = TypeVar("_Kind", bound=type[Algorithm])
ALGORITHMS: Choices[Algorithm] = Choices("algorithm")


def algorithm(kind: _Kind) -> _Kind:
    """Register an algorithm under its name."""
    ALGORITHMS(kind.name)(kind)
    return kind
