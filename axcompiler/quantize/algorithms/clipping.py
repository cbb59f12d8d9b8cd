"""Clipping: chooses the range of every activation by a range scheme, and with it the scales and zero points."""

from dataclasses import dataclass, field
from typing import ClassVar

from onnx import OperatorSetIdProto

from axforge.axcompiler.choices import nearest, option_names
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.quantize import ranges, schemes
from axforge.axcompiler.quantize.algorithm import Phase, Quantization, QuantizingAlgorithm, algorithm
from axforge.axcompiler.quantize.effect.choose import choose
from axforge.axcompiler.quantize.effect.fake_quant import CannotSimulate
from axforge.axcompiler.quantize.effect.search import Effort
from axforge.axcompiler.quantize.functions import function_of
from axforge.axcompiler.quantize.range_scheme import Function, RangeScheme
from axforge.axcompiler.stages import Scalar
from axforge.axcompiler.statistics.artefacts import Statistics
from axforge.axcompiler.statistics.base import PlacedStatistic
from axforge.axcompiler.statistics.ranges import TensorRange

#: what each effort of the choice by effect may cost; None: no choice
EFFORTS: dict[str, Effort | None] = {
    "fast": None,
    "normal": Effort(tried=2, held_out=4, share=0.6, most=600),
    "best": Effort(tried=4, held_out=8, share=20.0, most=1600),
}
#: the schemes that are chosen from, and of equals the first; it is also the one that is taken unseen
JUDGED = ("mse", "percentile", "entropy", "minmax")


@algorithm
@dataclass(frozen=True)
class Clipping(QuantizingAlgorithm):
    """scheme: a range scheme (a file in `schemes/`) for all tensors, or 'effect': the one of several that serves the outputs best.

    options: of that scheme. effort: of the choice by effect, one of EFFORTS.
    """

    name: ClassVar[str] = "clipping"
    phase: ClassVar[Phase] = Phase.ACTIVATIONS
    on: ClassVar[bool] = True
    needs: ClassVar[tuple[type[PlacedStatistic], ...]] = (TensorRange,)
    scheme: str = schemes.EFFECT
    options: dict[str, Scalar] = field(default_factory=dict)
    effort: str = "normal"

    def __post_init__(self) -> None:
        if self.effort not in EFFORTS:
            raise CompileError(f"there is no effort '{self.effort}'", where="quantize.effort", fix=nearest(self.effort, EFFORTS, "effort"))
        self._schemes()

    def apply(self, quantization: Quantization, statistics: Statistics) -> None:
        """Choose scales and zero points. Raises CompileError for a range that was not measured."""
        plan, effort = quantization.plan, EFFORTS[self.effort]
        known = self._schemes()
        if effort is None or not statistics.examples or not plan.sources:
            known = {name: known[name] for name in list(known)[:1]}
        by_function = any(scheme.uses_function for scheme in known.values())
        functions = _functions(plan, list(quantization.model.opset_import)) if by_function else {}
        candidates = {name: ranges.chosen(plan, statistics, scheme, functions) for name, scheme in known.items()}
        report = quantization.report
        report.scheme, bounds = next(iter(candidates.items()))
        report.tensors = len(bounds)
        if effort is not None and len(known) > 1:
            try:
                found = choose(quantization, statistics, candidates, effort)
            except CannotSimulate as e:
                report.unjudged = e.what
            else:
                report.scheme, bounds, report.losses, report.loss = found.scheme, found.ranges, found.singles, found.loss
                report.others = {tensor: scheme for tensor, scheme in found.origin.items() if scheme != found.scheme}
                report.runs = found.runs
        quantization.activations = ranges.assign(plan, statistics, bounds)

    def _schemes(self) -> dict[str, RangeScheme]:
        """The schemes to choose from, or the one. Raises CompileError for an unknown one, and for options that it does not take."""
        scheme = schemes.resolved(self.scheme, "quantize.scheme")
        if scheme != schemes.EFFECT:
            return {scheme: schemes.create(scheme, self.options, "quantize.scheme")}
        known = {name: option_names(schemes.SCHEMES[name]) for name in JUDGED}
        for option in self.options:
            if not any(option in options for options in known.values()):
                fix = nearest(option, {o for options in known.values() for o in options}, "option")
                raise CompileError(f"range scheme '{scheme}' has no option '{option}'", where="quantize.scheme", fix=fix)
        given = {name: {o: v for o, v in self.options.items() if o in options} for name, options in known.items()}
        return {name: schemes.create(name, given[name], "quantize.scheme") for name in JUDGED}


def _functions(plan: Plan, opsets: list[OperatorSetIdProto]) -> dict[str, Function]:
    """Tensors that are read by one table and nothing else, with its function."""
    found = {}
    for name in plan.sources:
        readers = plan.readers.get(name, ())
        if len(readers) == 1 and readers[0] in plan.aipu - plan.fused and plan.parts[readers[0]].region and name not in plan.view.outputs:
            found[name] = function_of(plan.view, plan.parts[readers[0]], opsets)
    return found
