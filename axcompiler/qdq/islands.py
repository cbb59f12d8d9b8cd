"""Cuts the float nodes into islands: groups with no int8 operator between their nodes, each a self-contained ONNX model."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from axforge.axcompiler.ir import Quant
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.onnx_graph.views import ModelView, names_read, subgraphs
from axforge.axcompiler.qdq.partition import FloatItem, Item


@dataclass(frozen=True)
class Group:
    """The float items of one island, in order."""

    items: tuple[FloatItem, ...]

    @property
    def at(self) -> int:
        """Position among the other items."""
        return self.items[-1].at

    @property
    def reads(self) -> tuple[str, ...]:
        """What it needs from outside, in order of first use."""
        made = {name for item in self.items for name in item.writes}
        return tuple(dict.fromkeys(name for item in self.items for name in item.reads if name not in made))

    @property
    def writes(self) -> tuple[str, ...]:
        """All it makes."""
        return tuple(name for item in self.items for name in item.writes)


def group(items: Sequence[Item]) -> list[Any]:
    """Float items joined to groups; the rest as it was; ordered so that operands come first.

    An item's depth counts how often a path to it changes from int8 to float. Float items of one depth that are connected make one
    island: a path from one to the other through an int8 item would make the other deeper, so no cycle can arise.
    """
    makers = {name: i for i, item in enumerate(items) for name in item.writes}
    before = [sorted({makers[name] for name in item.reads if name in makers}) for item in items]
    order = _sorted(before, [item.at for item in items])
    depths = _depths(items, before, order)
    parent = list(range(len(items)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i in order:
        for b in before[i]:
            if isinstance(items[i], FloatItem) and isinstance(items[b], FloatItem) and depths[i] == depths[b]:
                parent[root(i)] = root(b)
    members: dict[int, list[FloatItem]] = {}
    units: list[Any] = []
    for i in order:
        item = items[i]
        if isinstance(item, FloatItem):
            members.setdefault(root(i), []).append(item)
        else:
            units.append(item)
    units += [Group(tuple(group)) for group in members.values()]
    return _ordered(units)


def _depths(items: Sequence[Item], before: Sequence[Sequence[int]], order: Sequence[int]) -> list[int]:
    depths = [0] * len(items)
    for i in order:
        own = isinstance(items[i], FloatItem)
        depths[i] = max((depths[b] + (own and not isinstance(items[b], FloatItem)) for b in before[i]), default=0)
    return _late_sources(items, before, order, depths)


def _late_sources(items: Sequence[Item], before: Sequence[Sequence[int]], order: Sequence[int], depths: list[int]) -> list[int]:
    """A float item that depends on nothing (it makes a constant, say) joins the first island that uses it."""
    users: dict[int, list[int]] = {}
    for i in order:
        for b in before[i]:
            users.setdefault(b, []).append(i)
    free: set[int] = set()
    for i in order:
        made = {name for b in before[i] if b in free for name in items[b].writes}
        if isinstance(items[i], FloatItem) and set(items[i].reads) <= made:
            free.add(i)
    for i in reversed(order):
        if i in free and i in users and all(isinstance(items[u], FloatItem) for u in users[i]):
            depths[i] = min(depths[u] for u in users[i])
    return depths


def _sorted(before: Sequence[Sequence[int]], position: Sequence[int]) -> list[int]:
    """A topological order, by position where it is free."""
    waiting = [len(b) for b in before]
    after: dict[int, list[int]] = {}
    for i, group in enumerate(before):
        for b in group:
            after.setdefault(b, []).append(i)
    ready = [(position[i], i) for i, n in enumerate(waiting) if n == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, i = heapq.heappop(ready)
        order.append(i)
        for a in after.get(i, ()):
            waiting[a] -= 1
            if waiting[a] == 0:
                heapq.heappush(ready, (position[a], a))
    assert len(order) == len(before), "the items form a cycle"
    return order


def _ordered(units: list[Any]) -> list[Any]:
    makers = {name: i for i, unit in enumerate(units) for name in unit.writes}
    before = [sorted({makers[name] for name in unit.reads if name in makers} - {i}) for i, unit in enumerate(units)]
    return [units[i] for i in _sorted(before, [unit.at for unit in units])]


# ---------------------------------------------------------------- as a model


def reason(items: Iterable[FloatItem]) -> str:
    """Why an island is one: its first few nodes that the AIPU cannot run, and why."""
    whys = [f"{item.proto.op_type} '{item.proto.name or item.proto.output[0]}': {item.why}" for item in items if item.why]
    more = f"; and {len(whys) - 3} more" if len(whys) > 3 else ""
    return "; ".join(whys[:3]) + more


def extract(
    model: onnx.ModelProto, view: ModelView, island: Group, name: str, outputs: Sequence[str], quants: Mapping[str, Quant]
) -> bytes:
    """The island as an ONNX model, the same bytes for the same island. quants: of fused tensors, which it sees as float32."""
    nodes, values = _nodes(island, quants)
    inside = {n for node in nodes for n in node.output}
    read = sorted({n for node in nodes for n in names_read(node)} - inside)
    values = {n: view.constants[n] for n in read if n in view.constants} | values
    graph = helper.make_graph(
        nodes,
        name,
        [_info(view, n, n in quants) for n in island.reads],
        [_info(view, n, n in quants) for n in outputs],
        [numpy_helper.from_array(value, n) for n, value in values.items()],
    )
    domains = _domains(nodes)
    opsets = sorted((o for o in model.opset_import if o.domain in domains), key=lambda o: o.domain)
    functions = [f for f in model.functions if f.domain in domains]
    if functions:
        opsets = sorted(model.opset_import, key=lambda o: o.domain)
    made = helper.make_model(graph, opset_imports=opsets, ir_version=max(model.ir_version, 4), producer_name="", functions=functions)
    return made.SerializeToString(deterministic=True)


def _nodes(island: Group, quants: Mapping[str, Quant]) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Nodes under fused names, and constants they need beside the model's own.

    What is quantized and read again inside the island is rounded there, as the model says.
    """
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {}
    rounded: dict[str, str] = {}
    read = {name for item in island.items for name in item.reads}
    for item in island.items:
        nodes += _with_names(item, rounded)
        for name in item.writes:
            if name in quants and name in read:
                rounded[name] = f"{name}.rounded"
                names = [f"{name}.scale", f"{name}.zero_point"]
                constants[names[0]] = np.asarray(quants[name].scale, np.float32)
                constants[names[1]] = np.asarray(quants[name].zero_point, np.int8)
                nodes.append(helper.make_node("QuantizeLinear", [name, *names], [f"{name}.code"]))
                nodes.append(helper.make_node("DequantizeLinear", [f"{name}.code", *names], [rounded[name]]))
    return nodes, constants


def _with_names(item: FloatItem, rounded: Mapping[str, str]) -> list[onnx.NodeProto]:
    """The node with fused names; what its subgraphs take from outside comes through an Identity under its old name."""
    proto = onnx.NodeProto()
    proto.CopyFrom(item.proto)
    proto.doc_string = ""
    del proto.metadata_props[:]
    extra: list[onnx.NodeProto] = []
    inner = {n for graph in subgraphs(proto) for n in _names(graph)}
    renamed = {old: rounded.get(new, new) for old, new in item.renamed.items()}
    for old, new in sorted(renamed.items()):
        if old in inner and old != new:
            extra.append(helper.make_node("Identity", [new], [old]))
    proto.input[:] = [n if n in inner else renamed.get(n, n) for n in proto.input]
    return [*extra, proto]


def _names(graph: onnx.GraphProto) -> set[str]:
    return {n for node in graph.node for n in names_read(node)} | {o.name for o in graph.output}


def _domains(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    found = {""}
    for node in nodes:
        found.add(node.domain if node.domain != "ai.onnx" else "")
        for graph in subgraphs(node):
            found |= _domains(graph.node)
    return found | ({"ai.onnx"} if "" in found else set())


def _info(view: ModelView, name: str, quantized: bool) -> onnx.ValueInfoProto:
    kind = "float32" if quantized or name not in view.dtypes else view.dtypes[name]
    sizes: Mapping[str, tuple[int, ...]] = view.sizes
    shape = [d if d >= 0 else None for d in sizes[name]] if name in sizes else None
    return helper.make_tensor_value_info(name, elem_type(kind), shape)


def elem_type(dtype: str) -> int:
    """ONNX element type of a NumPy name."""
    import ml_dtypes

    if dtype == "str":
        return onnx.TensorProto.STRING
    kind = np.dtype(getattr(ml_dtypes, dtype)) if hasattr(ml_dtypes, dtype) else np.dtype(dtype)
    return int(helper.np_dtype_to_tensor_dtype(kind))
