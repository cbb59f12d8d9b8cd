"""What an algorithm is that rewrites the float model. Calibrate decides with it, quantize repeats what was decided: both run its code."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import onnx

from axforge.axcompiler.algorithm import Algorithm
from axforge.axcompiler.choices import Choices
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.statistics.artefacts import Decision, Statistics
from axforge.axcompiler.statistics.base import StatisticPoint


@dataclass(frozen=True)
class RewritingAlgorithm(Algorithm):
    """An algorithm that rewrites the float model without changing what it computes, so that it loses less in int8.

    It decides from statistics of a few samples, because what matters to it shows at once; the ranges of all tensors are then measured
    on the rewritten model. The decision is kept in ranges.json, so that the quantize stage rewrites the checked model alike.
    """

    @abstractmethod
    def needs(self, plan: Plan) -> Iterable[StatisticPoint]:
        """The statistics it decides from, and on which tensors of the model."""

    @abstractmethod
    def decide(self, plan: Plan, statistics: Statistics) -> Decision:
        """What to rewrite, as plain lists of integers by tensor name; empty if nothing gains by it."""

    @abstractmethod
    def rewrite(self, model: onnx.ModelProto, decision: Decision) -> tuple[onnx.ModelProto, dict[str, tuple[str, ...]]]:
        """The rewritten model, and the names of the nodes that replace a node of the old one, where they differ.

        Raises KeyError or ValueError for a decision that is not about this model.
        """


_Kind = TypeVar("_Kind", bound=type[RewritingAlgorithm])
REWRITES: Choices[RewritingAlgorithm] = Choices("algorithm")


def rewriting_algorithm(kind: _Kind) -> _Kind:
    """Register an algorithm under its name."""
    REWRITES(kind.name)(kind)
    return kind
