"""Which tensors become int8, and which of them share a scale: decided from checked.onnx alone, before any range is known."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import onnx

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.onnx_graph.views import ModelView, view
from axforge.axcompiler.placement.decision import Decision, recorded
from axforge.axcompiler.placement.regions import absorbed
from axforge.axcompiler.placement.units import Unit, activations, copies, is_join, is_layer, units


@dataclass(frozen=True)
class Plan:
    """parts: the units of the model; aipu: indices of those that run in int8; excluded: those that could, but must not.

    fused: bounds units (Relu, Clip) that the unit before them does; no Q/DQ between. quantized: activations that are int8,
    in the order they come to be. source: the tensor whose range each of them has (itself, or what it is a copy of).
    decision: what the QDQ model says of places and fusions.
    """

    view: ModelView
    parts: tuple[Unit, ...]
    aipu: frozenset[int]
    excluded: frozenset[int]
    fused: frozenset[int]
    quantized: tuple[str, ...]
    source: dict[str, str]
    decision: Decision

    @cached_property
    def maker(self) -> dict[str, int]:
        """Index of the unit that makes each tensor."""
        return {o: k for k, unit in enumerate(self.parts) for o in unit.outputs}

    @cached_property
    def readers(self) -> dict[str, list[int]]:
        """Indices of the units that read each tensor."""
        found: dict[str, list[int]] = {}
        for k, unit in enumerate(self.parts):
            for name in unit.inputs:
                found.setdefault(name, []).append(k)
        return found

    @cached_property
    def joins(self) -> dict[str, int]:
        """Results of concatenations on the AIPU, with the index of the unit."""
        return {u.outputs[0]: k for k, u in enumerate(self.parts) if k in self.aipu and is_join(u)}

    @cached_property
    def entering(self) -> frozenset[str]:
        """Int8 tensors that come from outside: graph inputs, and results of the host."""
        return frozenset(n for n in self.quantized if self.maker.get(n, -1) not in self.aipu)

    @cached_property
    def leaving(self) -> frozenset[str]:
        """Int8 tensors made on the AIPU that the host or the user reads."""
        outputs = set(self.view.outputs)
        return frozenset(
            n
            for n in self.quantized
            if n not in self.entering and (n in outputs or any(k not in self.aipu for k in self.readers.get(n, ())))
        )

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Tensors whose range must be measured (a concatenation has that of its operands)."""
        return tuple(n for n in self.quantized if self.source[n] == n and n not in self.joins)


def make_plan(model: onnx.ModelProto, exclude: Collection[str] = (), masked: Collection[str] = ()) -> Plan:
    """The plan for a checked model. exclude: names of nodes to leave in float32, with what is fused to them; masked: tensors that
    cannot be int8, whose makers and readers stay in float32 too.

    Raises CompileError if a name in `exclude` is not a node of the model.
    """
    seen = view(model)
    places = recorded(model).places
    _known(seen, exclude)
    parts = tuple(units(seen))
    aipu = {k for k, u in enumerate(parts) if not any(seen.nodes[i].name in places for i in u.nodes)}
    _verify(seen, parts, aipu)
    partners = _fusions(seen, parts, aipu)
    excluded = {k for k in aipu if any(seen.nodes[i].name in exclude for i in parts[k].nodes)}
    hidden = set(masked)
    for unit in parts:  # a copy of a masked tensor is masked, and is not measured itself
        if (copies(unit) or is_join(unit)) and not hidden.isdisjoint(unit.inputs):
            hidden.update(unit.outputs)
    excluded |= {k for k in aipu if not {*parts[k].inputs, *parts[k].outputs}.isdisjoint(hidden)}
    for bound, layer in partners.items():
        if excluded & {bound, layer}:
            excluded |= {bound, layer}
    aipu -= excluded
    fused = frozenset(bound for bound in partners if bound in aipu)
    quantized = _quantized(seen, parts, aipu, fused)
    names = {k: [seen.nodes[i].name for i in unit.nodes] for k, unit in enumerate(parts)}
    decision = Decision(
        {**places, **{name: "cpu" for k in sorted(excluded) for name in names[k]}},
        {name: names[partners[k]][0] for k in sorted(fused) for name in names[k]},
    )
    return Plan(seen, parts, frozenset(aipu), frozenset(excluded), fused, quantized, _sources(parts, aipu, quantized), decision)


def _known(seen: ModelView, exclude: Collection[str]) -> None:
    names = {n.name for n in seen.nodes}
    missing = sorted(set(exclude) - names)
    if missing:
        raise CompileError(
            f"quantize.exclude names {', '.join(missing)}, which the cleaned model does not have",
            where="quantize",
            fix="support.json of the check stage lists the nodes.",
        )


def _verify(seen: ModelView, parts: tuple[Unit, ...], aipu: set[int]) -> None:
    """Raises CompileError if a unit that the check stage put on the AIPU cannot run there."""
    for k in sorted(aipu):
        if parts[k].refusal is not None:
            raise CompileError(
                f"the check stage put '{seen.nodes[parts[k].nodes[0]].name}' on the AIPU, which cannot run it: {parts[k].refusal}",
                where="checked.onnx",
                fix="Run the check stage again with this version of axforge.",
            )


def _fusions(seen: ModelView, parts: tuple[Unit, ...], aipu: set[int]) -> dict[int, int]:
    """{unit that only clips: the accumulating unit before it}, where both are on the AIPU."""
    of_node = {i: k for k in aipu for i in parts[k].nodes}
    pairs = {}
    for k in sorted(aipu):
        region = parts[k].region
        layer = absorbed(seen, region) if region else None
        before = None if layer is None else of_node.get(layer)
        if before is not None and parts[before].region is None:
            pairs[k] = before
    return pairs


def _quantized(seen: ModelView, parts: tuple[Unit, ...], aipu: set[int], fused: frozenset[int]) -> tuple[str, ...]:
    between = {parts[k].inputs[0] for k in fused}
    wanted = {name for k in aipu for name in (*_operands(seen, parts[k]), *parts[k].outputs)} - between
    order = [*seen.inputs, *(o for unit in parts for o in unit.outputs)]
    return tuple(n for n in order if n in wanted)


def _operands(seen: ModelView, unit: Unit) -> list[str]:
    """Activations, no constants, that an accepted unit reads."""
    return list(unit.inputs) if unit.region else [n for n in activations(seen, unit.nodes[0]) if n not in seen.constants]


def _sources(parts: tuple[Unit, ...], aipu: set[int], quantized: tuple[str, ...]) -> dict[str, str]:
    """Copies have the range of what they copy."""
    maker = {o: k for k, u in enumerate(parts) for o in u.outputs}
    source: dict[str, str] = {}
    for name in quantized:
        k = maker.get(name, -1)
        copied = parts[k].inputs[0] if k in aipu and copies(parts[k]) and parts[k].inputs else name
        source[name] = source.get(copied, name)
    return source


def layer_inputs(plan: Plan) -> dict[str, int]:
    """Activations that layers multiply with weights, with the axis of their channels (for channel means)."""
    found = {}
    for k in sorted(plan.aipu):
        unit = plan.parts[k]
        if is_layer(plan.view, unit) and unit.inputs[0] in plan.source:
            node = plan.view.nodes[unit.nodes[0]]
            assert unit.operator is not None
            found[unit.inputs[0]] = unit.operator.channel_axis(node)
    return found
