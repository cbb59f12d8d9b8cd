"""Chains of operators that only move codes become one selection along an axis (the channel shuffle of ShuffleNet, for one)."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph, Op
from axforge.axcompiler.optimize.graph_edit import GraphPass, add_constant, result, without_unused
from axforge.axcompiler.passes import PassResult

Positions = NDArray[np.int64]
#: source, axis, index, origin
_Found = tuple[str, int, NDArray[np.int32], tuple[str, ...]]


@dataclass(frozen=True)
class ShufflesToTakes(GraphPass):
    """Replace a chain of operators that only move codes by one selection along an axis.

    x ── Reshape ── Transpose ── Reshape ── Take ── Reshape ── y      becomes      x ── Take along one axis ── y

    wherever the chain amounts to that; what others still read of the chain stays.
    largest: tensors with more elements are not tried, because the chain is evaluated on the positions of all elements.
    """

    at: ClassVar[tuple[int, ...]] = (300,)
    largest: int = 1 << 22

    def apply(self, graph: Graph) -> PassResult[Graph]:
        """Rewrite the graph once."""
        makers: dict[str, Op] = {name: op for op in graph.ops for name in op.outputs}
        movers = [op for op in graph.ops if op.moves_codes]
        ends = {op.name for op in movers} - {makers[n].name for op in movers for n in op.inputs if n in makers}
        added: dict[str, NDArray[np.generic]] = {}
        ops: list[Op] = []
        for op in graph.ops:
            found = _as_take(graph, makers, op, self.largest) if op.name in ends else None
            if found is not None:
                source, axis, index, origin = found
                name = add_constant(graph, added, index, "index")
                op = ir.Take(name=op.name, inputs=(source,), outputs=op.outputs, origin=origin, axis=axis, index=name)
            ops.append(op)
        return result(graph, without_unused(replace(graph, ops=tuple(ops), constants={**graph.constants, **added})))


def _as_take(graph: Graph, makers: dict[str, Op], end: Op, largest: int) -> tuple[str, int, NDArray[np.int32], tuple[str, ...]] | None:
    """(source, axis, index, origin) if the longest chain that ends in `end` is a selection along one axis."""
    chain = [end]
    while chain[0].inputs[0] in makers and makers[chain[0].inputs[0]].moves_codes:
        chain.insert(0, makers[chain[0].inputs[0]])
    source = chain[0].inputs[0]
    shape, out = graph.tensors[source].shape, graph.tensors[end.outputs[0]].shape
    if len(chain) < 2 or len(shape) != len(out) or not 0 < math.prod(shape) <= largest:
        return None
    positions: Positions = np.arange(math.prod(shape)).reshape(shape)
    moved = positions
    for op in chain:
        moved = op.evaluate(graph, [moved])
    for axis in range(len(shape)):
        index = _selection(positions, moved, axis)
        if index is not None:
            return source, axis, index.astype(np.int32), tuple(dict.fromkeys(n for op in chain for n in op.origin))
    return None


def _selection(positions: Positions, moved: Positions, axis: int) -> Positions | None:
    """The index with moved == take(positions, index, axis), or None."""
    others = [a for a in range(positions.ndim) if a != axis]
    if any(positions.shape[a] != moved.shape[a] for a in others) or 0 in moved.shape:
        return None
    first = tuple(slice(None) if a == axis else 0 for a in range(positions.ndim))
    index = np.asarray(moved[first]) // math.prod(positions.shape[axis + 1 :])
    if index.max() >= positions.shape[axis]:
        return None
    return index if np.array_equal(np.take(positions, index, axis=axis), moved) else None
