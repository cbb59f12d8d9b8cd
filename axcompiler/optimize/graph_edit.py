"""What the passes of the fused graph share: finding makers and users, adding constants, leaving out what nothing uses."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from axforge.axcompiler import ir, spec
from axforge.axcompiler.ir import Graph, Op, fields
from axforge.axcompiler.names import fresh
from axforge.axcompiler.passes import Pass, PassResult, Property

#: the graph keeps the rules of spec.py
WELL_FORMED = Property("well-formed", spec.check)


@dataclass(frozen=True)
class GraphPass(Pass[Graph]):
    """A pass on the fused graph. It keeps what the graph computes, bit for bit, and the rules of spec.py."""

    requires: ClassVar[tuple[Property[Any], ...]] = (WELL_FORMED,)
    ensures: ClassVar[tuple[Property[Any], ...]] = (WELL_FORMED,)

    @staticmethod
    def text(ir: Graph) -> str:
        """The graph as text, an operator on each line."""
        return graph_text(ir)


def result(before: Graph, after: Graph) -> PassResult[Graph]:
    """The result of a pass: which operators it removed, changed or added, and how many constants it left out."""
    old, new = ({op.name: op for op in graph.ops} for graph in (before, after))
    notes = [f"removed {type(op).__name__} '{name}'" for name, op in old.items() if name not in new]
    notes += [f"changed {type(op).__name__} '{name}'" for name, op in new.items() if name in old and op != old[name]]
    notes += [f"added {type(op).__name__} '{name}'" for name, op in new.items() if name not in old]
    lost = sum(name not in after.constants for name in before.constants) + sum(name not in after.tensors for name in before.tensors)
    notes += [f"left out tensors and constants: {lost}"] if lost else []
    return PassResult(after, tuple(notes)) if notes else PassResult(before)


def users_of(graph: Graph) -> dict[str, list[Op]]:
    """The operators that read each tensor."""
    users: dict[str, list[Op]] = {}
    for op in graph.ops:
        for name in dict.fromkeys(op.inputs):
            users.setdefault(name, []).append(op)
    return users


def makers_of(graph: Graph) -> dict[str, Op]:
    """The operator that makes each tensor."""
    return {name: op for op in graph.ops for name in op.outputs}


def only_user(graph: Graph, users: Mapping[str, list[Op]], name: str) -> Op | None:
    """The one operator that reads a tensor which is not an output; None if there is another."""
    found = users.get(name, [])
    return found[0] if len(found) == 1 and name not in graph.outputs else None


def add_constant(graph: Graph, added: dict[str, Any], value: Any, hint: str) -> str:
    """Name of a constant with this content, new or old."""
    for name, old in (*graph.constants.items(), *added.items()):
        if name not in graph.tensors and old.dtype == value.dtype and old.shape == value.shape and np.array_equal(old, value):
            return name
    name = fresh(f"{hint}.p{len(graph.constants) + len(added)}", graph.constants.keys() | graph.tensors.keys() | added.keys())
    added[name] = value
    return name


def without_unused(graph: Graph) -> Graph:
    """The graph without operators whose results nothing reads, and without tensors, constants and islands that nothing refers to."""
    needed = set(graph.outputs)
    kept: list[Op] = []
    for op in reversed(graph.ops):
        if any(name in needed for name in op.outputs):
            needed.update(op.inputs)
            kept.append(op)
    kept.reverse()
    named = needed | set(graph.inputs) | {name for op in kept for name in op.outputs}
    constants = {name for op in kept for name, _ in fields.constants(op)} | named
    islands = {op.island for op in kept if isinstance(op, ir.Island)}
    return replace(
        graph,
        ops=tuple(kept),
        tensors={n: t for n, t in graph.tensors.items() if n in named},
        constants={n: v for n, v in graph.constants.items() if n in constants},
        islands={n: m for n, m in graph.islands.items() if n in islands},
    )


# ---------------------------------------------------------------- as text


def graph_text(graph: Graph) -> str:
    """The graph as text: inputs, then an operator on each line, then outputs; shapes, scales and zero points with every tensor."""
    lines = [f"graph {graph.name}", *(f"  input {_tensor_text(graph, name)}" for name in graph.inputs)]
    for op in graph.ops:
        results = ", ".join(_tensor_text(graph, name) for name in op.outputs)
        given = [*op.inputs, *(f"{f}={getattr(op, f)!r}" for f in op.__struct_fields__ if f not in ("name", "inputs", "outputs", "origin"))]
        lines.append(f"  {results} = {type(op).__name__}({', '.join(given)})  # {op.name}")
    return "\n".join([*lines, *(f"  output {name}" for name in graph.outputs)]) + "\n"


def _tensor_text(graph: Graph, name: str) -> str:
    tensor = graph.tensors[name]
    quant = f" scale {tensor.quant.scale:.6g} zero {tensor.quant.zero_point}" if tensor.quant else ""
    return f"{name}: {tensor.dtype}{list(tensor.shape)}{quant}"
