"""A scale and zero point for every int8 activation, from the plan and the statistics."""

from collections.abc import Mapping, Sequence

import numpy as np

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Quant
from axforge.axcompiler.placement import masks
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.placement.units import copies, is_join
from axforge.axcompiler.quantize.range_scheme import Bounds, Function, RangeScheme, extremes
from axforge.axcompiler.statistics.artefacts import Statistics

#: an operand of a concatenation that others read too keeps its own scale (and gets a table) if the common range is wider than this
JOIN_RATIO = 1.3
#: scales below this would make multipliers that float32 cannot hold
MIN_SCALE = 2.0**-60


def chosen(plan: Plan, statistics: Statistics, scheme: RangeScheme, functions: Mapping[str, Function]) -> dict[str, Bounds]:
    """The range of every tensor that has one of its own. functions: of tensors that only a table reads, what it makes of them.

    Raises CompileError if a range was not measured.
    """
    added = _added_values(plan)
    return {name: _measured(plan, statistics, scheme, name, functions.get(name), added.get(name, ())) for name in plan.sources}


def assign(plan: Plan, statistics: Statistics, own: Mapping[str, Bounds]) -> dict[str, Quant]:
    """Quantization of every tensor in plan.quantized. own: the range of every tensor that has one of its own, as `chosen` gives them."""
    bounds = dict(own)
    _saturate(plan, statistics, bounds)
    groups = _Groups(bounds)
    for name, k in plan.joins.items():
        _join(plan, groups, name, k)
    return {name: quant_for(groups.bounds(plan.source[name])) for name in plan.quantized}


def _saturate(plan: Plan, statistics: Statistics, bounds: dict[str, Bounds]) -> None:
    """Give masked scores, and the masks in their sums, ranges whose lowest code gets the weight 0 in the softmax."""
    saturated = {plan.source.get(name, name) for name in statistics.saturated} & bounds.keys()
    reaching = {plan.source[name] for name in masks.softmax_operands(plan) if name in plan.source}
    for name in saturated & reaching:
        bounds[name] = bounds[name][0] - masks.MARGIN, bounds[name][1]
    for result, operands in masks.sums(plan):
        sources = [plan.source[o] for o in operands if o in plan.source]
        for mask in saturated.intersection(sources) if result in bounds else ():
            highest = sum(max(bounds[other][1], 0.0) for other in sources if other != mask)
            bounds[mask] = min(bounds[mask][0], bounds[result][0] - highest), bounds[mask][1]


def quant_for(bounds: Bounds) -> Quant:
    """int8 codes for lo..hi, where 0 has a code of its own: scale = (hi - lo) / 255."""
    lo, hi = min(bounds[0], 0.0), max(bounds[1], 0.0)
    if lo == hi:
        hi = 1.0  # never anything but 0 was seen; any scale is exact for it
    scale = float(np.float32(max((hi - lo) / 255, MIN_SCALE)))
    return Quant(scale, int(np.clip(np.rint(-128 - lo / scale), -128, 127)))


def _measured(
    plan: Plan, statistics: Statistics, scheme: RangeScheme, name: str, function: Function | None, added: Sequence[float]
) -> Bounds:
    fixed = _fixed(plan, name)
    if fixed is not None:
        return fixed
    if name not in statistics.ranges:
        return _range_of(plan, statistics, name)
    measured = statistics.ranges[name]
    if name in plan.entering and plan.maker.get(name) is None:
        return snapped(extremes(measured))
    if name in plan.entering or name in plan.leaving:
        return extremes(measured)
    lo, hi = scheme.choose(measured, function)
    return min((lo, *added)), max((hi, *added))


def _range_of(plan: Plan, statistics: Statistics, name: str) -> Bounds:
    """Extremes of a tensor that may be a copy or a concatenation, which are not measured themselves."""
    if name in statistics.ranges:
        return extremes(statistics.ranges[name])
    k = plan.maker.get(name)
    if k is None or not (copies(plan.parts[k]) or is_join(plan.parts[k])):
        raise CompileError(
            f"tensor '{name}' has no measured range", where="quantize", fix="Run the calibrate stage again on this checked.onnx."
        )
    return hull([_range_of(plan, statistics, i) for i in plan.parts[k].inputs])


def _fixed(plan: Plan, name: str) -> Bounds | None:
    k = plan.maker.get(name, -1)
    operator = plan.parts[k].operator if k in plan.aipu else None
    return operator.fixed_range if operator is not None else None


def snapped(bounds: Bounds) -> Bounds:
    """The range that image data are meant to fill, where the samples nearly fill it: 0..1, 0..255, -1..1."""
    lo, hi = bounds
    for a, b in ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)):
        if a <= lo <= a + 0.1 * (b - a) and b - 0.1 * (b - a) <= hi <= b:
            return a, b
    return bounds


def _added_values(plan: Plan) -> dict[str, list[float]]:
    """Padding with a constant brings that number into the tensor (and its copies): the numbers, by tensor."""
    added: dict[str, list[float]] = {}
    for k in plan.aipu:
        operator, node = plan.parts[k].operator, plan.view.nodes[plan.parts[k].nodes[0]]
        value = operator.added_value(node) if operator is not None else None
        if value is not None and node.inputs[0] in plan.source:
            added.setdefault(plan.source[node.inputs[0]], []).append(value)
    return added


class _Groups:
    """Tensors that share one range: a union-find whose roots hold the hull of their members' bounds."""

    def __init__(self, bounds: dict[str, Bounds]) -> None:
        self._parent = {name: name for name in bounds}
        self._bounds = dict(bounds)

    def root(self, name: str) -> str:
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def bounds(self, name: str) -> Bounds:
        return self._bounds[self.root(name)]

    def add(self, name: str, bounds: Bounds) -> None:
        self._parent[name], self._bounds[name] = name, bounds

    def unite(self, a: str, b: str) -> None:
        a, b = self.root(a), self.root(b)
        if a != b:
            self._bounds[a] = hull([self._bounds[a], self._bounds[b]])
            self._parent[b] = a


def hull(parts: list[Bounds]) -> Bounds:
    """The smallest range that holds all."""
    return min(p[0] for p in parts), max(p[1] for p in parts)


def _join(plan: Plan, groups: _Groups, name: str, k: int) -> None:
    """Give a concatenation the hull of its operands, and its scale to each operand that loses nothing elsewhere by it."""
    operands = [plan.source[i] for i in plan.parts[k].inputs if i in plan.source]
    values = [plan.view.constants[i] for i in plan.view.nodes[plan.parts[k].nodes[0]].inputs if i in plan.view.constants]
    common = hull([*(groups.bounds(i) for i in operands), *((float(v.min()), float(v.max())) for v in values if v.size)])
    groups.add(name, common)
    roots = {groups.root(i) for i in operands}
    for operand in dict.fromkeys(operands):
        narrow = groups.bounds(operand)
        ratio = (common[1] - common[0]) / max(narrow[1] - narrow[0], 1e-30)
        exact = operand in plan.entering or _fixed(plan, operand) is not None
        if len(roots) == 1 or (not exact and (ratio <= JOIN_RATIO or not _used_elsewhere(plan, operand))):
            groups.unite(name, operand)


def _used_elsewhere(plan: Plan, source: str) -> bool:
    """Whether anything but concatenations reads the tensor or a copy of it."""
    copies = [n for n, s in plan.source.items() if s == source]
    readers = {k for n in copies for k in plan.readers.get(n, ())}
    moving = {plan.maker.get(n) for n in copies}
    return any(k not in moving and plan.parts[k].outputs[0] not in plan.joins for k in readers)
