"""What an algorithm of the quantize stage is: it chooses integers, in its phase.

    ACTIVATIONS  ranges ─► a scale and zero point for every int8 activation
    LAYERS       weights and biases, after their rounding to integers

The statistics that it needs are declared, not asked for: their names reach calibration as data, so that editing an algorithm does not
calibrate again.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, TypeVar

import onnx

from axforge.axcompiler.algorithm import Algorithm
from axforge.axcompiler.choices import Choices
from axforge.axcompiler.ir import Quant
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.quantize.layers import QuantizedLayer
from axforge.axcompiler.quantize.report import QuantizationReport
from axforge.axcompiler.stages import Progress, silent
from axforge.axcompiler.statistics.artefacts import Statistics
from axforge.axcompiler.statistics.base import PlacedStatistic


class Phase(IntEnum):
    """When algorithms are applied; those of one phase in the order of their names."""

    ACTIVATIONS = 1
    LAYERS = 2


@dataclass
class Quantization:
    """A float model on its way to int8: what algorithms read, and fill in or change.

    activations: scale and zero point by tensor. layers: integer weights and biases by the tensor that the layer makes.
    layers_for: what the layers become with given activations, the algorithms of phase LAYERS applied. report: what was chosen.
    """

    model: onnx.ModelProto
    plan: Plan
    layers_for: Callable[[dict[str, Quant]], dict[str, QuantizedLayer]]
    activations: dict[str, Quant] = field(default_factory=dict)
    layers: dict[str, QuantizedLayer] = field(default_factory=dict)
    report: QuantizationReport = field(default_factory=QuantizationReport)
    progress: Progress = silent


@dataclass(frozen=True)
class QuantizingAlgorithm(Algorithm):
    """An algorithm that chooses integers. needs: what calibration must collect for it; STANDARD statistics if it is on by default."""

    phase: ClassVar[Phase]
    needs: ClassVar[tuple[type[PlacedStatistic], ...]] = ()

    @abstractmethod
    def apply(self, quantization: Quantization, statistics: Statistics) -> None:
        """Fill in or change the part of `quantization` that belongs to its phase."""


_Kind = TypeVar("_Kind", bound=type[QuantizingAlgorithm])
ALGORITHMS: Choices[QuantizingAlgorithm] = Choices("algorithm")


def algorithm(kind: _Kind) -> _Kind:
    """Register an algorithm under its name."""
    ALGORITHMS(kind.name)(kind)
    return kind
