"""An ONNX model as `NodeView`s: what check, quantize and optimize look at instead of protocol buffers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from axforge.axcompiler.numerics import Array


@dataclass(frozen=True)
class NodeView:
    """A read-only view of one ONNX node with what is known about its values.

    shapes: of every input and output with a static shape. dtypes: NumPy names. constants: inputs that are constants.
    '' in `inputs` is an optional input that is left out.
    """

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    constants: Mapping[str, Array]
    domain: str = ""

    def shape(self, i: int) -> tuple[int, ...] | None:
        """Static shape of input i, or None if it is left out or dynamic."""
        return self.shapes.get(self.inputs[i]) if i < len(self.inputs) else None

    def constant(self, i: int) -> Array | None:
        """Value of input i if it is a constant, else None."""
        return self.constants.get(self.inputs[i]) if i < len(self.inputs) else None


@dataclass(frozen=True)
class ModelView:
    """A model's main graph.

    nodes: in the model's order, without `Constant` nodes, whose values are in `constants` beside the initializers.
    protos: the ONNX node of each view. inputs: graph inputs that are no initializers. outputs: graph outputs.
    shapes: every tensor with a static shape. dtypes: NumPy names, where known. sizes: of every tensor of known rank, -1 where free.
    makers: index of the node that makes a tensor. users: indices of the nodes that read one (subgraphs included), ascending.
    """

    nodes: tuple[NodeView, ...]
    protos: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    sizes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, Array]
    makers: Mapping[str, int]
    users: Mapping[str, tuple[int, ...]]


def view(model: onnx.ModelProto, *, constants: Mapping[str, Array] | None = None) -> ModelView:
    """The model's main graph as views, with shapes inferred here. `constants`: further tensors to be taken as constants."""
    inferred = infer(model)
    graph = inferred.graph
    values = constants_of(graph) | dict(constants or {})
    sizes, dtypes = _types(graph, values)
    shapes = {name: size for name, size in sizes.items() if -1 not in size}
    protos = tuple(n for n in graph.node if not (n.op_type == "Constant" and n.output[0] in values))
    opsets = {o.domain: o.version for o in model.opset_import}
    nodes = tuple(_node(n, i, opsets, shapes, dtypes, values) for i, n in enumerate(protos))
    users: dict[str, list[int]] = {}
    for i, proto in enumerate(protos):
        for name in sorted(set(names_read(proto))):
            users.setdefault(name, []).append(i)
    return ModelView(
        nodes=nodes,
        protos=protos,
        inputs=tuple(i.name for i in graph.input if i.name not in values),
        outputs=tuple(o.name for o in graph.output),
        shapes=shapes,
        dtypes=dtypes,
        sizes=sizes,
        constants=values,
        makers={name: i for i, n in enumerate(protos) for name in n.output if name},
        users={name: tuple(ids) for name, ids in users.items()},
    )


def infer(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all shapes that ONNX can infer, also through shape arithmetic."""
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def constants_of(graph: onnx.GraphProto) -> dict[str, Array]:
    """Values of initializers and `Constant` nodes by name (strings and sparse tensors stay nodes)."""
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.data_type != onnx.TensorProto.STRING}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            value = _constant(node)
            if value is not None:
                values[node.output[0]] = value
    return values


def _constant(node: onnx.NodeProto) -> Array | None:
    attribute = node.attribute[0]
    if attribute.name == "value" and attribute.t.data_type != onnx.TensorProto.STRING:
        return numpy_helper.to_array(attribute.t)
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(onnx.helper.get_attribute_value(attribute), np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(onnx.helper.get_attribute_value(attribute), np.int64)
    return None


def _types(graph: onnx.GraphProto, values: Mapping[str, Array]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    sizes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for info in (*graph.value_info, *graph.input, *graph.output):
        if not info.type.HasField("tensor_type"):
            continue
        tensor = info.type.tensor_type
        if tensor.elem_type:
            dtypes[info.name] = dtype_name(tensor.elem_type)
        if tensor.HasField("shape"):
            sizes[info.name] = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else -1 for d in tensor.shape.dim)
    for name, value in values.items():
        sizes[name], dtypes[name] = value.shape, value.dtype.name
    return sizes, dtypes


def dtype_name(elem_type: int) -> str:
    """NumPy name of an ONNX element type."""
    if elem_type == onnx.TensorProto.STRING:
        return "str"
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type)).name


def _node(
    proto: onnx.NodeProto,
    i: int,
    opsets: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, str],
    values: Mapping[str, Array],
) -> NodeView:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    return NodeView(
        op_type=proto.op_type,
        name=proto.name or f"{proto.op_type}_{i}",
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes={a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute if not a.ref_attr_name},
        opset=opsets.get(domain, opsets.get("ai.onnx", 0) if not domain else 0),
        shapes=shapes,
        dtypes=dtypes,
        constants=values,
        domain=domain,
    )


def subgraphs(proto: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs in the attributes of a node."""
    for attribute in proto.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def names_read(proto: onnx.NodeProto) -> Iterator[str]:
    """Names a node reads: its inputs, and what its subgraphs take from outside."""
    yield from (name for name in proto.input if name)
    for graph in subgraphs(proto):
        yield from captured(graph)


def captured(graph: onnx.GraphProto) -> Iterable[str]:
    """Names a subgraph takes from the graph around it, sorted."""
    own = {i.name for i in graph.input} | {t.name for t in graph.initializer} | {n for node in graph.node for n in node.output}
    read = {name for node in graph.node for name in names_read(node)} | {o.name for o in graph.output}
    return sorted(read - own)
