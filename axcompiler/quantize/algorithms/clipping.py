"""Clipping: chooses the range of every activation by a range scheme, and with it the scales and zero points."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from onnx import OperatorSetIdProto

from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.placement.units import region_bounds
from axforge.axcompiler.quantize import ranges, schemes
from axforge.axcompiler.quantize.algorithm import Phase, Quantization, QuantizingAlgorithm, algorithm
from axforge.axcompiler.quantize.functions import function_of
from axforge.axcompiler.quantize.range_scheme import Function
from axforge.axcompiler.stages import Scalar
from axforge.axcompiler.statistics.artefacts import Statistics
from axforge.axcompiler.statistics.base import StatisticPoint
from axforge.axcompiler.statistics.ranges import TensorRange


@algorithm
@dataclass(frozen=True)
class Clipping(QuantizingAlgorithm):
    """scheme: a range scheme (a file in `schemes/`). options: of that scheme."""

    name: ClassVar[str] = "clipping"
    phase: ClassVar[Phase] = Phase.ACTIVATIONS
    on: ClassVar[bool] = True
    scheme: str = "mse"
    options: dict[str, Scalar] = field(default_factory=dict)

    def needs(self, plan: Plan) -> Iterable[StatisticPoint]:
        """The range of every tensor that has a scale of its own."""
        return [StatisticPoint(name, TensorRange(from_zero=_from_zero(plan, name))) for name in plan.sources]

    def apply(self, quantization: Quantization, statistics: Statistics) -> None:
        """Choose scales and zero points. Raises CompileError for an unknown scheme or option, and for a range that was not measured."""
        scheme = schemes.create(self.scheme, self.options, "quantize.scheme")
        plan = quantization.plan
        functions = _functions(plan, list(quantization.model.opset_import)) if scheme.uses_function else {}
        quantization.activations = ranges.assign(plan, statistics, scheme, functions)


def _from_zero(plan: Plan, name: str) -> bool:
    """Whether a tensor is what a Relu makes: its lower extreme is 0, or has no effect."""
    k = plan.maker.get(name, -1)
    clipped = region_bounds(plan.view, plan.parts[k]) if k in plan.aipu else None
    return clipped is not None and clipped[0] == 0


def _functions(plan: Plan, opsets: list[OperatorSetIdProto]) -> dict[str, Function]:
    """Tensors that are read by one table and nothing else, with its function."""
    found = {}
    for name in plan.sources:
        readers = plan.readers.get(name, ())
        if len(readers) == 1 and readers[0] in plan.aipu - plan.fused and plan.parts[readers[0]].region and name not in plan.view.outputs:
            found[name] = function_of(plan.view, plan.parts[readers[0]], opsets)
    return found
