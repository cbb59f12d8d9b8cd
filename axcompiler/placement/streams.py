"""Residual streams of transformers: normalizations and the sums before them, and the matrix products that read from them and write to them.

x ──┬───────────────────────────► Sum ──► Norm ──┬──► ...          (norm after the sum; before it: Norm ──► products ──► Sum)
    └► product ──► f ──► product ──┘             └──► product
"""

from collections.abc import Iterator
from dataclasses import dataclass

from axforge.axcompiler.operators.base import Operator
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.placement.units import is_layer


@dataclass(frozen=True)
class Read:
    """What products read of a normalization. tensor: its result. units: those that read it first (a copy or a product).

    layers: the products.
    """

    tensor: str
    units: tuple[int, ...]
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Write:
    """What a product writes. layer: its unit. path: copies from there to `tensor`, which the unit `reader` of the stream reads."""

    layer: int
    path: tuple[int, ...]
    tensor: str
    reader: int


@dataclass(frozen=True)
class Hidden:
    """A function between two products, of which the second alone reads it. tensor: what it makes."""

    first: int
    function: int
    second: int
    tensor: str


@dataclass(frozen=True)
class Stream:
    """Units that hang together. norms: the normalizations among them; units: these, the sums, and the copies between."""

    norms: tuple[int, ...]
    units: frozenset[int]


def streams(plan: Plan) -> list[Stream]:
    """The streams of a model, wherever their units run, in its order."""
    norms = [k for k in range(len(plan.parts)) if (operator := _operator(plan, k)) and operator.normalizes]
    group: dict[int, set[int]] = {k: {k} for k in norms}
    waiting = list(norms)
    while waiting:
        k = waiting.pop()
        for name in plan.parts[k].inputs:
            path, j = behind(plan, name)
            operator = _operator(plan, j)
            if operator is None or not (operator.normalizes or operator.sums):
                continue
            waiting += [] if j in group else [j]
            joined = group[k] | group.setdefault(j, {j}) | set(path)
            group.update(dict.fromkeys(joined, joined))
    unique = {id(units): units for units in group.values()}.values()
    found = [Stream(tuple(k for k in norms if k in units), frozenset(units)) for units in unique]
    return sorted(found, key=lambda stream: stream.norms)


def reads(plan: Plan, stream: Stream) -> Iterator[Read]:
    """What products read of the normalizations of a stream."""
    for k in stream.norms:
        name = plan.parts[k].outputs[0]
        outside = [first for first in plan.readers.get(name, ()) if first not in stream.units]
        found = [(first, layers) for first in outside if (layers := _products(plan, first, name))]
        if found:
            yield Read(name, tuple(first for first, _ in found), tuple(layer for _, layers in found for layer in layers))


def writes(plan: Plan, stream: Stream) -> Iterator[Write]:
    """What products write to a stream, to be read there once."""
    for k in sorted(stream.units):
        for name in plan.parts[k].inputs:
            path, j = behind(plan, name)
            made = [name, *(plan.parts[p].inputs[0] for p in path)]
            if is_product(plan, j) and all(_read_once(plan, tensor) for tensor in made):
                yield Write(j, tuple(path), name, k)


def hidden(plan: Plan, write: Write) -> Hidden | None:
    """What the product of `write` reads, if that is a function of another product."""
    second = plan.parts[write.layer].inputs[0]
    path, function = behind(plan, second)
    if function not in plan.aipu or not plan.parts[function].region:
        return None
    back, first = behind(plan, plan.parts[function].inputs[0])
    between = [second, plan.parts[function].inputs[0], *(plan.parts[p].inputs[0] for p in (*path, *back))]
    if not is_product(plan, first) or not all(_read_once(plan, tensor) for tensor in between):
        return None
    shapes = plan.view.shapes
    alike = shapes[plan.parts[first].outputs[0]] == shapes[second]
    return Hidden(first, function, write.layer, plan.parts[function].outputs[0]) if alike else None


def is_product(plan: Plan, k: int) -> bool:
    """Whether a unit on the AIPU multiplies rows of the last axis by a constant matrix."""
    operator = _operator(plan, k)
    if k not in plan.aipu or operator is None:
        return False
    node = plan.view.nodes[plan.parts[k].nodes[0]]
    if not is_layer(plan.view, plan.parts[k]) or node.constant(1) is None:
        return False
    weight = node.shapes[node.inputs[1]]
    rank = len(node.shapes[node.inputs[0]])
    matrix = len(weight) >= 2 and set(weight[:-2]) <= {1} and operator.channel_groups is None
    return matrix and rank >= 2 and operator.channel_axis(node) == rank - 1 and operator.weight_axis(node) >= len(weight) - 2


def _operator(plan: Plan, k: int) -> Operator | None:
    """What is known of a unit; None for a region, and for -1."""
    return plan.parts[k].operator if k >= 0 and plan.parts[k].region is None else None


def _keeps_rows(plan: Plan, k: int) -> bool:
    operator = _operator(plan, k)
    return operator is not None and operator.keeps_rows(plan.view.nodes[plan.parts[k].nodes[0]])


def behind(plan: Plan, name: str) -> tuple[list[int], int]:
    """The copies of rows that make a tensor, the last first, and the unit before them (-1: the model's input)."""
    path: list[int] = []
    k = plan.maker.get(name, -1)
    while k >= 0 and _keeps_rows(plan, k):
        path.append(k)
        k = plan.maker.get(plan.parts[k].inputs[0], -1)
    return path, k


def _products(plan: Plan, k: int, name: str) -> tuple[int, ...]:
    """The products that read tensor `name` through unit k, if it has no other readers; else ()."""
    unit = plan.parts[k]
    if is_product(plan, k):
        return (k,) if unit.inputs == (name,) else ()
    if k not in plan.aipu or not _keeps_rows(plan, k) or unit.outputs[0] in plan.view.outputs:
        return ()
    found = [_products(plan, reader, unit.outputs[0]) for reader in plan.readers.get(unit.outputs[0], ())]
    return tuple(layer for layers in found for layer in layers) if all(found) else ()


def _read_once(plan: Plan, name: str) -> bool:
    return len(plan.readers.get(name, ())) == 1 and name not in plan.view.outputs
