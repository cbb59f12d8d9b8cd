"""Padding moves into the convolution or pooling after it."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import msgspec

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph, Op
from axforge.axcompiler.optimize.graph_edit import GraphPass, makers_of, only_user, result, users_of, without_unused
from axforge.axcompiler.passes import PassResult


@dataclass(frozen=True)
class FusePadding(GraphPass):
    """Move padding into the convolution or the pooling after it.

    x ── Pad (with the zero point) ── y ── Conv      becomes      x ── Conv with larger pads

    Likewise before MaxPool, where the padding is -128.
    """

    at: ClassVar[tuple[int, ...]] = (800,)

    def apply(self, graph: Graph) -> PassResult[Graph]:
        """Rewrite the graph once."""
        makers, users = makers_of(graph), users_of(graph)
        ops: list[Op] = []
        for op in graph.ops:
            pad = makers.get(op.inputs[0]) if op.inputs else None
            if isinstance(op, ir.Conv | ir.MaxPool) and isinstance(pad, ir.Pad) and only_user(graph, users, op.inputs[0]) is op:
                quant = graph.tensors[op.inputs[0]].quant
                neutral = -128 if isinstance(op, ir.MaxPool) else quant.zero_point if quant else None
                if pad.value == neutral and len(pad.before) == 4 and not any((*pad.before[:2], *pad.after[:2])):
                    grown = (*pad.before[2:], *pad.after[2:])
                    pads = tuple(a + b for a, b in zip(op.pads, grown, strict=True))
                    any_op: Any = op
                    op = msgspec.structs.replace(any_op, inputs=pad.inputs, pads=pads, origin=(*pad.origin, *op.origin))
            ops.append(op)
        return result(graph, without_unused(replace(graph, ops=tuple(ops))))
