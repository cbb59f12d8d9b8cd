"""A model as units: what the AIPU would do in one go. A unit is a one-input region, or a single node."""

from dataclasses import dataclass

from axforge.axcompiler import operators
from axforge.axcompiler.onnx_graph.views import ModelView, names_read
from axforge.axcompiler.operators import find
from axforge.axcompiler.operators.base import Operator, Role, Scale
from axforge.axcompiler.placement.regions import Region, bounds, regions


@dataclass(frozen=True)
class Unit:
    """nodes: indices into ModelView.nodes. inputs: activations it reads, no constants. refusal: why the AIPU cannot run it, or None."""

    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    region: Region | None
    operator: Operator | None
    refusal: str | None


def units(view: ModelView) -> list[Unit]:
    """All nodes of a model in units, in an order in which each operand is made before it is used."""
    found = []
    in_region: set[int] = set()
    for region in regions(view):
        in_region.update(region.nodes)
        found.append(Unit(region.nodes, (region.input,), (region.output,), region, None, None))
    found += [_single(view, i) for i in range(len(view.nodes)) if i not in in_region]
    return sorted(found, key=lambda unit: unit.nodes[-1])


def _single(view: ModelView, i: int) -> Unit:
    node = view.nodes[i]
    operator = find(node.op_type, node.domain)
    refusal = operators.refusal(node)
    inputs = tuple(dict.fromkeys(n for n in node.inputs if n and n not in view.constants))
    outputs = tuple(o for o in node.outputs if o)
    if refusal is None:
        refusal = _types_refusal(view, i)
    if refusal is not None:
        inputs = tuple(dict.fromkeys(n for n in names_read(view.protos[i]) if n not in view.constants))
    return Unit((i,), inputs, outputs, None, operator, refusal)


def _types_refusal(view: ModelView, i: int) -> str | None:
    node = view.nodes[i]
    for name in (*activations(view, i), *(o for o in node.outputs if o)):
        if view.dtypes.get(name) != "float32":
            return f"it works on {view.dtypes.get(name, 'an unknown type')}, and the AIPU quantizes float32"
        if name not in view.shapes:
            return "a size in it depends on data"
        if 0 in view.shapes[name]:
            return "a tensor in it is empty"
    return None


def activations(view: ModelView, i: int) -> list[str]:
    """Operands of an accepted node that are quantized as activations, constants among them."""
    node = view.nodes[i]
    operator = find(node.op_type, node.domain)
    if operator is None:
        return []
    return [n for n, role in zip(node.inputs, operator.roles(node), strict=False) if n and role is Role.ACTIVATION]


def is_layer(view: ModelView, unit: Unit) -> bool:
    """Whether the AIPU runs the unit as a product with constant weights that is part of the network (not of a box decoder)."""
    operator = unit.operator
    if unit.refusal is not None or operator is None or operator.multiplies is None:
        return False
    return operator.multiplies(view.nodes[unit.nodes[-1]]) and not _is_expectation(view, unit)


def _is_expectation(view: ModelView, unit: Unit) -> bool:
    """A product with one row of constants after a softmax is the mean of a distribution (DFL box decoding), no layer."""
    node = view.nodes[unit.nodes[-1]]
    if unit.operator is None or not unit.operator.single_row(node):
        return False
    name = node.inputs[0]
    while name in view.makers:
        maker = view.nodes[view.makers[name]]
        operator = find(maker.op_type, maker.domain)
        if operator is not None and operator.distribution:
            return True
        if operator is None or operator.scale is not Scale.COPY or operator.selects:
            return False
        name = maker.inputs[0]
    return False


def region_bounds(view: ModelView, unit: Unit) -> tuple[float, float] | None:
    """(lo, hi) if the unit only clips its operand."""
    return bounds(tuple(view.nodes[i] for i in unit.nodes)) if unit.region else None


def is_join(unit: Unit) -> bool:
    """Whether the unit is a concatenation the AIPU can do."""
    return unit.operator is not None and unit.refusal is None and unit.operator.scale is Scale.JOIN


def copies(unit: Unit) -> bool:
    """Whether the unit only moves codes about."""
    return unit.operator is not None and unit.refusal is None and unit.operator.scale is Scale.COPY
