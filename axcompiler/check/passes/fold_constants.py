"""What depends on constants and static shapes alone is computed in advance, by onnxruntime."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnxruntime as ort
from onnx import NodeProto, ValueInfoProto, helper, numpy_helper

from axforge.axcompiler.check.passes.base import RepeatedPass
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.onnx_graph.net import Net, attribute, has_subgraph, reads, to_model
from axforge.axcompiler.operators import is_random

#: a folded constant may be this large, or as large as what it is made from: a constant Expand must not bloat the model
MAX_BYTES = 1 << 22

#: element types that NumPy and onnxruntime both have
_TYPES = frozenset(helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in "?bBhHiIlLefd")


@dataclass(frozen=True)
class FoldConstants(RepeatedPass):
    """Compute what depends on constants and static shapes alone.

    constant ── op ── y ── op      becomes      constant y ── op

    Nodes that onnxruntime cannot run stay, and so do constants that would be much larger than what they are made from.
    keep_dequantize: leave DequantizeLinear of weights as it is.
    """

    at: ClassVar[tuple[int, ...]] = (300,)
    on_quantized: ClassVar[bool] = True
    keep_dequantize: bool = False
    once: ClassVar[bool] = True

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        made = _shapes(net)
        chosen, known = [], set(net.constants)
        for node in net.nodes:
            if _foldable(net, node, known, self.keep_dequantize):
                chosen.append(node)
                known.update(o for o in node.output if o)
        chosen_ids = {id(n) for n in chosen}
        read = {name for node in net.nodes if id(node) not in chosen_ids for name in reads(node)} | net.output_names
        wanted = [o for node in chosen for o in node.output if o in read and o not in net.output_names]
        if not chosen or not wanted:
            return made
        kept = _store(net, chosen, _evaluate(net, chosen, wanted))
        dead = [n for n in chosen if id(n) not in kept and not any(o in net.output_names for o in n.output)]
        net.remove(dead, "it depends on constants alone and was computed")
        return [*made, *(f"computed '{node.name}'" for node in dead)]


def _shapes(net: Net) -> list[str]:
    """Shape and Size of values with a static shape are constants."""
    dead = []
    for node in net.nodes:
        if node.op_type not in ("Shape", "Size") or node.output[0] in net.output_names or node.input[0] not in net.shapes:
            continue
        shape = net.shapes[node.input[0]]
        if node.op_type == "Shape":
            value = np.asarray(shape[attribute(node, "start", 0) : attribute(node, "end", None)], np.int64)
        else:
            value = np.asarray(math.prod(shape), np.int64)
        net.constants[node.output[0]] = numpy_helper.from_array(value, node.output[0])
        dead.append(node)
    net.remove(dead, "the shape it asks for is static")
    return [f"computed the shape '{node.name}'" for node in dead]


def _foldable(net: Net, node: NodeProto, known: set[str], keep_dequantize: bool) -> bool:
    if node.domain not in ("", "ai.onnx") or is_random(node.op_type) or has_subgraph(node):
        return False
    if keep_dequantize and node.op_type == "DequantizeLinear":
        return False
    if not all(name in known for name in node.input if name) or (not node.input and node.op_type != "Constant"):
        return False
    for name in (o for o in node.output if o):
        if net.types.get(name) not in _TYPES or math.prod(net.shapes.get(name, (0,))) > 1 << 26:
            return False
    return True


def _model(net: Net, nodes: list[NodeProto], wanted: list[str]) -> bytes:
    used = {name for node in nodes for name in node.input}
    outputs = [helper.make_empty_tensor_value_info(name) for name in wanted]
    for output in outputs:
        output.type.tensor_type.elem_type = net.types[output.name]
    part = Net(nodes, {n: t for n, t in net.constants.items() if n in used}, [], list[ValueInfoProto](outputs), net.opsets)
    return to_model(part).SerializeToString()


def _run(net: Net, nodes: list[NodeProto], wanted: list[str]) -> dict[str, Array]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(_model(net, nodes, wanted), options, providers=["CPUExecutionProvider"])
    return dict(zip(wanted, session.run(wanted, {}), strict=True))


def _evaluate(net: Net, nodes: list[NodeProto], wanted: list[str]) -> dict[str, Array]:
    """Values of `wanted`. If the nodes cannot be run together, one by one, without those that cannot be run at all."""
    try:
        return _run(net, nodes, wanted)
    except Exception:  # onnxruntime raises many types, among them bare ones, for an operator it lacks
        values: dict[str, Array] = {}
        scratch = Net([], dict(net.constants), [], [], net.opsets, dict(net.shapes), dict(net.types))
        for node in nodes:
            outputs = [o for o in node.output if o]
            if all(name in scratch.constants for name in node.input if name):
                try:
                    results = _run(scratch, [node], outputs)
                except Exception:  # the node stays in the graph, which is correct
                    continue
                values |= {name: v for name, v in results.items() if name in wanted}
                scratch.constants |= {name: numpy_helper.from_array(np.asarray(v, order="C"), name) for name, v in results.items()}
        return values


def _store(net: Net, chosen: list[NodeProto], values: dict[str, Array]) -> set[int]:
    """Put the values among the constants, except bloated ones. Gives the ids of nodes that must stay."""
    makers = {o: node for node in chosen for o in node.output if o}
    missing = {o for o in makers if o not in values}
    for name, value in values.items():
        source = sum(net.constants[i].ByteSize() for i in _sources(makers, name) if i in net.constants)
        if value.nbytes > MAX_BYTES and value.nbytes > source:
            missing.add(name)
        else:
            net.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
    return _needed(net, chosen, makers, missing)


def _sources(makers: dict[str, NodeProto], name: str) -> set[str]:
    """Constants that `name` is computed from."""
    found: set[str] = set()
    todo, seen = [name], set()
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        if at in makers:
            todo.extend(i for i in makers[at].input if i)
        else:
            found.add(at)
    return found


def _needed(net: Net, chosen: list[NodeProto], makers: dict[str, NodeProto], missing: set[str]) -> set[int]:
    """Ids of chosen nodes that something outside still needs, because their value was not stored."""
    ids = {id(n) for n in chosen}
    todo = [o for node in net.nodes if id(node) not in ids for o in reads(node) if o in missing]
    todo += [o for o in net.output_names if o in makers]
    kept: set[int] = set()
    while todo:
        node = makers[todo.pop()]
        if id(node) not in kept:
            kept.add(id(node))
            todo.extend(i for i in node.input if i in makers and i not in net.constants)
    return kept
