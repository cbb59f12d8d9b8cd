"""Layer normalization that is written out becomes one operator."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from axforge.axcompiler.check.passes.base import RepeatedPass
from axforge.axcompiler.onnx_graph.net import Net, attribute
from axforge.axcompiler.onnx_graph.views import subgraphs

#: the first opset that has the operator
OPSET = 17


@dataclass(frozen=True)
class FuseLayerNorm(RepeatedPass):
    """Replace layer normalization that is written out by the operator, and raise the opset to 17 if the model's is lower.

    x ─┬─ ReduceMean ── m
       └─ Sub (m) ── d ─┬─ Pow (2) ── ReduceMean ── Add (epsilon) ── Sqrt ── s
                        └─ Div (s) ── Mul (scale) ── Add (bias) ── y             becomes      x ── LayerNormalization ── y

    Exporters write this below opset 17. The means are over the last axes; Mul (d, d) may stand for Pow, and the scale or the bias may
    be missing. A model with a node that means something else at opset 17 stays as it is.
    """

    at: ClassVar[tuple[int, ...]] = (390,)

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        makers, users = net.makers(), net.users()
        for node in net.nodes:
            found = _find(net, makers, node)
            if found is None or not found.is_private(net, users) or not _opset_can_rise(net):
                continue
            found.extend(net, users)
            _replace(net, found)
            return [f"made a LayerNormalization of '{found.last.name}' and {len(found.nodes) - 1} nodes before it"]
        return []


@dataclass
class _WrittenOut:
    """nodes: of the normalization; the last of them makes its result. axes: sizes of the normalized axes. scale, bias: in their shape."""

    x: str
    epsilon: float
    axes: tuple[int, ...]
    nodes: list[NodeProto]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]

    @property
    def last(self) -> NodeProto:
        return self.nodes[-1]

    def is_private(self, net: Net, users: Mapping[str, list[NodeProto]]) -> bool:
        """Whether nothing outside reads the values between x and the result."""
        inside = {id(node) for node in self.nodes}
        between = [name for node in self.nodes[:-1] for name in node.output]
        return all(name not in net.output_names and all(id(user) in inside for user in users[name]) for name in between)

    def extend(self, net: Net, users: Mapping[str, list[NodeProto]]) -> None:
        """Take in the product with a constant scale and the sum with a constant bias, where they follow."""
        for op_type in ("Mul", "Add"):
            y = self.last.output[0]
            after = users[y]
            if len(after) != 1 or y in net.output_names or not _is(after[0], op_type) or after[0].input[0] == after[0].input[1]:
                continue
            value = _over(net.constant(next(name for name in after[0].input if name != y)), self.axes)
            if value is None:
                return
            if op_type == "Mul":
                self.scale = value
            else:
                self.bias = value
            self.nodes.append(after[0])


def _find(net: Net, makers: Mapping[str, NodeProto], last: NodeProto) -> _WrittenOut | None:
    """The normalization, without scale and bias, whose division is `last`."""

    def maker(node: NodeProto | None, i: int, *op_types: str) -> NodeProto | None:
        found = makers.get(node.input[i]) if node is not None else None
        return found if found is not None and _is(found, *op_types) else None

    if not _is(last, "Div"):
        return None
    root = maker(last, 1, "Sqrt")
    total = maker(root, 0, "Add")
    for i in (0, 1):
        variance = maker(total, i, "ReduceMean")
        square = maker(variance, 0, "Pow", "Mul")
        numerator, centred = maker(last, 0, "Sub"), maker(square, 0, "Sub")
        mean = maker(centred, 1, "ReduceMean")
        if total is None or root is None or variance is None or square is None or numerator is None or centred is None or mean is None:
            continue
        epsilon, axes = _number(net.constant(total.input[1 - i])), _normalized(net, mean)
        same = list(numerator.input) == list(centred.input) and centred.input[0] == mean.input[0]
        if epsilon is None or axes is None or not same or not _is_square(net, square) or _normalized(net, variance) != axes:
            continue
        subtractions = [centred] if numerator is centred else [centred, numerator]
        nodes = [mean, *subtractions, square, variance, total, root, last]
        return _WrittenOut(mean.input[0], epsilon, axes, nodes, np.ones(axes, np.float32), np.zeros(axes, np.float32))
    return None


def _is(node: NodeProto, *op_types: str) -> bool:
    return node.op_type in op_types and node.domain in ("", "ai.onnx")


def _is_square(net: Net, node: NodeProto) -> bool:
    return node.input[0] == node.input[1] if node.op_type == "Mul" else _number(net.constant(node.input[1])) == 2


def _number(value: NDArray[Any] | None) -> float | None:
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None


def _normalized(net: Net, mean: NodeProto) -> tuple[int, ...] | None:
    """Sizes of the axes that a ReduceMean averages and keeps, if they are the last ones of a float32 value of known shape."""
    shape = net.shapes.get(mean.input[0])
    given = net.constant(mean.input[1]) if len(mean.input) > 1 and mean.input[1] else attribute(mean, "axes")
    if shape is None or given is None or not attribute(mean, "keepdims", 1) or net.types.get(mean.input[0]) != TensorProto.FLOAT:
        return None
    axes = sorted(int(a) % len(shape) for a in given) if shape else []
    return shape[axes[0] :] if axes and axes == list(range(axes[0], len(shape))) else None


def _over(value: NDArray[Any] | None, axes: tuple[int, ...]) -> NDArray[np.float32] | None:
    """A float32 constant in the shape of the normalized axes; None if it is none, or varies along other axes."""
    if value is None or value.dtype != np.float32:
        return None
    lead = max(value.ndim - len(axes), 0)
    inner = value.shape[lead:]
    fits = all(size in (1, axis) for size, axis in zip(inner[::-1], axes[::-1], strict=False))
    return np.broadcast_to(value.reshape(inner), axes) if fits and all(size == 1 for size in value.shape[:lead]) else None


def _opset_can_rise(net: Net) -> bool:
    """Whether every node means the same at opset 17. (Of all operators since 13, two do not; the others took more types, or attributes
    whose default is what they did before.)"""
    opset = net.opsets.get("", 0)
    return opset >= OPSET or not any(
        (_is(node, "RoiAlign") and opset < 16) or (_is(node, "BatchNormalization") and len(node.output) > 1) for node in _all(net.nodes)
    )


def _all(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _all(graph.node)


def _replace(net: Net, found: _WrittenOut) -> None:
    """The operator in the place of the last node."""
    name, y = found.last.name, found.last.output[0]
    parameters = [net.add_constant(f"{name}_scale", found.scale), net.add_constant(f"{name}_bias", found.bias)]
    made = helper.make_node("LayerNormalization", [found.x, *parameters], [y], name, axis=-len(found.axes), epsilon=found.epsilon)
    net.remove(found.nodes[:-1], f"part of the layer normalization '{name}'")
    net.nodes = [made if node is found.last else node for node in net.nodes]
    net.opsets[""] = max(net.opsets.get("", 0), OPSET)
