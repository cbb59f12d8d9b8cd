"""Equal constants are kept once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from axforge.axcompiler import ir
from axforge.axcompiler.ir import AnyOp, Graph
from axforge.axcompiler.optimize.graph_edit import CONSTANT_FIELDS, GraphPass, result, without_unused
from axforge.axcompiler.passes import PassResult


@dataclass(frozen=True)
class MergeConstants(GraphPass):
    """Keep constants with the same content once.

    Conv (weight a)                                Conv (weight a)
    Conv (weight b, equal to a)      becomes       Conv (weight a)

    Constant operands stay apart, because each has a scale of its own.
    """

    def apply(self, graph: Graph) -> PassResult[Graph]:
        """Rewrite the graph once."""
        first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        renamed: dict[str, str] = {}
        for name, value in graph.constants.items():
            if name not in graph.tensors:
                renamed[name] = first.setdefault((value.dtype.name, value.shape, value.tobytes()), name)
        return result(graph, without_unused(replace(graph, ops=tuple(_renamed(op, renamed) for op in graph.ops))))


def _renamed(op: AnyOp, names: Mapping[str, str]) -> AnyOp:
    change: dict[str, Any] = {f: names[v] for f in CONSTANT_FIELDS if isinstance(v := getattr(op, f, None), str)}
    epilogue = getattr(op, "epilogue", None)
    if epilogue is not None and epilogue.table is not None:
        change["epilogue"] = msgspec.structs.replace(epilogue, table=names[epilogue.table])
    if isinstance(op, ir.Concat):
        change["tables"] = tuple(t if t is None else names[t] for t in op.tables)
    return msgspec.structs.replace(op, **change) if change else op
