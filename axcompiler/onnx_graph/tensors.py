"""All tensors and nodes that an ONNX model holds, wherever they hide: what may be in other files must be found everywhere."""

from collections.abc import Iterable, Iterator

import onnx


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that the model holds: initializers and attributes, those of subgraphs and functions too."""
    yield from _stored(model.graph)
    for attribute in (a for node in nodes(model) for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for inner in (attribute.g, *attribute.graphs):
            yield from _stored(inner)


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, those in subgraphs and functions too."""
    yield from with_inner(model.graph.node)
    for function in model.functions:
        yield from with_inner(function.node)


def with_inner(outer: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These nodes and those in their subgraphs."""
    for node in outer:
        yield node
        for inner in (g for a in node.attribute for g in (a.g, *a.graphs)):
            yield from with_inner(inner.node)


def _stored(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
