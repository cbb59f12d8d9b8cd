"""Clipping: chooses the range of every activation by a range scheme, and with it the scales and zero points."""

from dataclasses import dataclass, field
from typing import ClassVar

from onnx import OperatorSetIdProto

from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.quantize import ranges, schemes
from axforge.axcompiler.quantize.algorithm import Phase, Quantization, QuantizingAlgorithm, algorithm
from axforge.axcompiler.quantize.functions import function_of
from axforge.axcompiler.quantize.range_scheme import Function, RangeScheme
from axforge.axcompiler.stages import Scalar
from axforge.axcompiler.statistics.artefacts import Statistics
from axforge.axcompiler.statistics.base import PlacedStatistic
from axforge.axcompiler.statistics.ranges import TensorRange


@algorithm
@dataclass(frozen=True)
class Clipping(QuantizingAlgorithm):
    """scheme: a range scheme (a file in `schemes/`). options: of that scheme."""

    name: ClassVar[str] = "clipping"
    phase: ClassVar[Phase] = Phase.ACTIVATIONS
    on: ClassVar[bool] = True
    needs: ClassVar[tuple[type[PlacedStatistic], ...]] = (TensorRange,)
    scheme: str = "mse"
    options: dict[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._scheme()

    def apply(self, quantization: Quantization, statistics: Statistics) -> None:
        """Choose scales and zero points. Raises CompileError for a range that was not measured."""
        scheme = self._scheme()
        plan = quantization.plan
        functions = _functions(plan, list(quantization.model.opset_import)) if scheme.uses_function else {}
        quantization.activations = ranges.assign(plan, statistics, scheme, functions)

    def _scheme(self) -> RangeScheme:
        """The range scheme. Raises CompileError for an unknown one, and for options that it does not take."""
        return schemes.create(self.scheme, self.options, "quantize.scheme")


def _functions(plan: Plan, opsets: list[OperatorSetIdProto]) -> dict[str, Function]:
    """Tensors that are read by one table and nothing else, with its function."""
    found = {}
    for name in plan.sources:
        readers = plan.readers.get(name, ())
        if len(readers) == 1 and readers[0] in plan.aipu - plan.fused and plan.parts[readers[0]].region and name not in plan.view.outputs:
            found[name] = function_of(plan.view, plan.parts[readers[0]], opsets)
    return found
