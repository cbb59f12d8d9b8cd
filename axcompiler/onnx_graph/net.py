"""A working copy of an ONNX graph that the passes of `check` edit: nodes in order, constants by name, and why nodes were removed."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from axforge.axcompiler.names import fresh
from axforge.axcompiler.numerics import Array


@dataclass
class Net:
    """nodes: topologically ordered. constants: initializers. shapes, types: of values, static shapes only.

    removed: original nodes that were taken out, by name, with operator and reason. `opset` is that of the default domain.
    """

    nodes: list[NodeProto]
    constants: dict[str, TensorProto]
    inputs: list[ValueInfoProto]
    outputs: list[ValueInfoProto]
    opsets: dict[str, int]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    removed: dict[str, tuple[str, str]] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)
    value_info: list[ValueInfoProto] = field(default_factory=list)

    @property
    def output_names(self) -> set[str]:
        """Names of the model's outputs."""
        return {o.name for o in self.outputs}

    def constant(self, name: str) -> Array | None:
        """The value of a constant, else None."""
        if name not in self.constants:
            return None
        if name not in self.values:
            self.values[name] = numpy_helper.to_array(self.constants[name])
        return self.values[name]

    def add_constant(self, name: str, value: Array) -> str:
        """Store `value` under `name`, or under a name made from it if that is taken; gives the name."""
        unique = fresh(name, self.names())
        self.constants[unique] = numpy_helper.from_array(np.asarray(value, order="C"), unique)
        return unique

    def names(self) -> set[str]:
        """Every name of a value in the graph."""
        return {*self.constants, *(i.name for i in self.inputs), *(o for n in self.nodes for o in n.output)}

    def users(self) -> dict[str, list[NodeProto]]:
        """Nodes that read each value, also from within their subgraphs."""
        users: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(reads(node)):
                users[name].append(node)
        return users

    def makers(self) -> dict[str, NodeProto]:
        """The node that makes each value."""
        return {o: node for node in self.nodes for o in node.output if o}

    def remove(self, dead: Iterable[NodeProto], reason: str) -> None:
        """Take nodes out, and note why."""
        ids = {id(node) for node in dead}
        for node in self.nodes:
            if id(node) in ids:
                self.removed.setdefault(node.name, (node.op_type, reason))
        self.nodes = [node for node in self.nodes if id(node) not in ids]

    def replace_value(self, old: str, new: str) -> None:
        """Let every reader of `old` read `new` (graph outputs are not renamed)."""
        for node in self.nodes:
            rename_reads(node, old, new)


def reads(node: NodeProto) -> Iterator[str]:
    """Names of values `node` reads, also those its subgraphs take from outside (and their own: harmless to callers)."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
            for inner in graph.node:
                yield from reads(inner)
            yield from (o.name for o in graph.output)


def rename_reads(node: NodeProto, old: str, new: str) -> None:
    """Rename a value that `node` or its subgraphs read."""
    for i, name in enumerate(node.input):
        if name == old:
            node.input[i] = new
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
            for inner in graph.node:
                rename_reads(inner, old, new)
            for output in graph.output:
                if output.name == old:  # a subgraph may hand an outer value straight out
                    output.name = new


def has_subgraph(node: NodeProto) -> bool:
    """Whether the node carries graphs (If, Loop, Scan)."""
    return any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute, or `default`."""
    for a in node.attribute:
        if a.name == name:
            return helper.get_attribute_value(a)
    return default


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    """Set or replace an attribute."""
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def from_model(model: onnx.ModelProto) -> Net:
    """A Net of a model; initializers that are listed as inputs too are constants only."""
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    for sparse in graph.sparse_initializer:
        constants[sparse.values.name] = numpy_helper.from_array(_dense(sparse), sparse.values.name)
    inputs = [i for i in graph.input if i.name not in constants]
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    return Net(list(graph.node), constants, inputs, list(graph.output), opsets)


def _dense(sparse: onnx.SparseTensorProto) -> Array:
    values, at = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    out = np.zeros(tuple(sparse.dims), values.dtype)
    if at.ndim == 1:
        out.reshape(-1)[at] = values
    else:
        out[tuple(at.T)] = values
    return out


def to_model(net: Net) -> onnx.ModelProto:
    """The ONNX model of a Net, with nothing in it that does not decide what it computes."""
    opsets = [helper.make_opsetid(domain, version) for domain, version in sorted(net.opsets.items())]
    graph = helper.make_graph(net.nodes, "graph", net.inputs, net.outputs, list(net.constants.values()), value_info=net.value_info)
    model = helper.make_model(graph, opset_imports=opsets, producer_name="axforge")
    known = [o for o in opsets if (o.domain, o.version) in helper.OP_SET_ID_VERSION_MAP or o.domain == ""]
    model.ir_version = max(8, helper.find_min_ir_version_for(known, ignore_unknown=True))
    return model


def check_order(net: Net) -> None:
    """Raises ValueError unless every value is made once, and before a node reads it."""
    made = {*net.constants, *(i.name for i in net.inputs)}
    for node in net.nodes:
        for name in node.input:
            if name and name not in made:
                raise ValueError(f"'{node.name}' reads '{name}' before it is made")
        for name in filter(None, node.output):
            if name in made:
                raise ValueError(f"'{name}' is made twice")
            made.add(name)
