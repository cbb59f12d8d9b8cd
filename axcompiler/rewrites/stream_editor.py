"""Edits a float model around its residual streams: places, factors of channels, products computed in two parts."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from axforge.axcompiler.names import Names
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.onnx_graph.net import rename_reads
from axforge.axcompiler.onnx_graph.views import names_read
from axforge.axcompiler.placement.decision import Decision, record, recorded
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.placement.streams import Hidden, Read, Stream, Write, behind

F32 = NDArray[np.float32]


def matrix(plan: Plan, k: int) -> F32:
    """The constant matrix of a product, [M, C]."""
    unit = plan.parts[k]
    assert unit.operator is not None
    node = plan.view.nodes[unit.nodes[0]]
    value = np.asarray(node.constant(1), np.float32)
    rows_first = unit.operator.weight_axis(node) == value.ndim - 2
    value = value.reshape(value.shape[-2:])
    return value if rows_first else value.T


class StreamEditor:
    """A copy of the model being edited. parts: the nodes that replace a node of the model, where there are several."""

    def __init__(self, model: onnx.ModelProto, plan: Plan) -> None:
        self._plan, self._model = plan, model
        self._nodes = [NodeProto.FromString(p.SerializeToString()) for p in plan.view.protos]
        self._after: dict[int, list[NodeProto]] = {}
        self._matrices: dict[int, F32] = {}
        self._biases: dict[int, F32] = {}
        self._constants: dict[str, onnx.TensorProto] = {t.name: t for t in model.graph.initializer}
        tensors = {*self._constants, *(o for n in model.graph.node for o in n.output), *(i.name for i in model.graph.input)}
        self._names = Names({*tensors, *(n.name for n in plan.view.nodes)})
        self._places = dict(recorded(model).places)
        self.parts: dict[str, tuple[str, ...]] = {}

    def to_float(self, stream: Stream) -> None:
        """Keep the units of a stream in float32."""
        for k in stream.units & self._plan.aipu:
            self._places.update((self._plan.view.nodes[i].name, "cpu") for i in self._plan.parts[k].nodes)

    def read(self, read: Read, exponents: Sequence[int]) -> None:
        """Divide what products read by powers of two, and multiply their weights by them."""
        factor = _powers(exponents)
        scaled = self._scaled(self._plan.view.makers[read.tensor], read.tensor, np.reciprocal(factor))
        for k in read.units:
            for i in self._plan.parts[k].nodes:
                rename_reads(self._nodes[i], read.tensor, scaled)
        for layer in read.layers:
            self._matrices[layer] = self._matrix(layer) * factor

    def write(self, write: Write, exponents: Sequence[int]) -> None:
        """Divide what a product makes by powers of two, and multiply it by them where the stream reads it."""
        factor = _powers(exponents)
        bias = self._bias(write.layer)
        self._matrices[write.layer] = self._matrix(write.layer) / factor[:, None]
        if bias is not None:
            self._biases[write.layer] = bias / factor
        self._redirect(write, self._scaled(self._plan.view.makers[write.tensor], write.tensor, factor))

    def apart(self, write: Write, between: Hidden, channels: Sequence[int]) -> None:
        """Compute some channels of what the product of `write` reads, which `between` makes, in float32."""
        maker, parts, few = self._plan.view.makers[write.tensor], self._plan.parts, list(channels)
        first, second, bias = self._matrix(between.first), self._matrix(between.second), self._bias(between.first)
        renamed: dict[str, str] = {}
        for k in reversed(behind(self._plan, parts[between.first].inputs[0])[0]):
            self._double(maker, k, renamed)
        self._double(maker, between.first, renamed, first[few], None if bias is None else bias[few])
        renamed[parts[between.function].inputs[0]] = renamed[parts[between.first].outputs[0]]
        self._double(maker, between.function, renamed)
        renamed[parts[between.second].inputs[0]] = renamed[between.tensor]
        self._double(maker, between.second, renamed, second[:, few])
        for k in reversed(write.path):
            self._double(maker, k, renamed)
        keep = np.ones(len(first), np.float32)
        keep[few] = 0
        self._matrices[between.first], self._matrices[between.second] = first * keep[:, None], second * keep
        if bias is not None:
            self._biases[between.first] = bias * keep
        self._redirect(write, self._insert(maker, "Add", [write.tensor, renamed[write.tensor]], f"{write.tensor}_whole"))

    def finish(self) -> onnx.ModelProto:
        """The edited model."""
        for layer, value in self._matrices.items():
            self._set(self._nodes[self._plan.parts[layer].nodes[0]], layer, value, self._bias(layer))
        result = onnx.ModelProto()
        result.CopyFrom(self._model)
        constants = [n for n in self._model.graph.node if n.op_type == "Constant" and n.output[0] in self._plan.view.constants]
        nodes = [*constants, *(n for i, node in enumerate(self._nodes) for n in (node, *self._after.get(i, ())))]
        read = {name for n in nodes for name in names_read(n)}
        del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
        result.graph.node.extend(nodes)
        result.graph.initializer.extend(tensor for name, tensor in self._constants.items() if name in read)
        record(result, Decision(self._places))
        return result

    def _redirect(self, write: Write, name: str) -> None:
        """Let the stream read another tensor than what the product writes."""
        for i in self._plan.parts[write.reader].nodes:
            rename_reads(self._nodes[i], write.tensor, name)

    def _double(self, maker: int, k: int, renamed: dict[str, str], weight: F32 | None = None, bias: F32 | None = None) -> None:
        """Put a copy of unit k behind node `maker`, in float32 and maybe with another weight. renamed: other names of what it reads, and
        then of what it makes.
        """
        for i in self._plan.parts[k].nodes:
            new = NodeProto.FromString(self._nodes[i].SerializeToString())
            old = self._plan.view.nodes[i].name
            new.name = self._names.fresh(f"{old}_apart")
            new.input[:] = [renamed.get(name, name) for name in new.input]
            renamed.update((name, self._names.fresh(f"{name}_apart")) for name in new.output if name)
            new.output[:] = [renamed.get(name, name) for name in new.output]
            if weight is not None:
                self._set(new, k, weight, bias)
            self._after.setdefault(maker, []).append(new)
            self._places[new.name] = "cpu"
            self.parts[old] = (*self.parts.get(old, (old,)), new.name)

    def _scaled(self, maker: int, name: str, factor: F32) -> str:
        """A tensor times a factor for each channel, in float32."""
        return self._insert(maker, "Mul", [name, self._constant(f"{name}_factor", factor)], f"{name}_scaled")

    def _insert(self, maker: int, op_type: str, inputs: Sequence[str], wanted: str) -> str:
        """The result of a node in float32 that is put behind node `maker`."""
        node = helper.make_node(op_type, inputs, [self._names.fresh(wanted)], self._names.fresh(f"{wanted}_node"))
        self._places[node.name] = "cpu"
        self._after.setdefault(maker, []).append(node)
        return node.output[0]

    def _constant(self, wanted: str, value: Array) -> str:
        name = self._names.fresh(wanted)
        self._constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def _matrix(self, k: int) -> F32:
        return self._matrices[k] if k in self._matrices else matrix(self._plan, k)

    def _bias(self, k: int) -> F32 | None:
        """The bias of a product, [M]."""
        if k in self._biases:
            return self._biases[k]
        value = self._plan.view.nodes[self._plan.parts[k].nodes[0]].constant(2)
        return None if value is None else np.broadcast_to(np.asarray(value, np.float32).reshape(-1), (len(self._matrix(k)),))

    def _set(self, proto: NodeProto, k: int, value: F32, bias: F32 | None) -> None:
        """Give a copy of product k other constants. value: [M, C]; bias: [M]."""
        view, operator = self._plan.view.nodes[self._plan.parts[k].nodes[0]], self._plan.parts[k].operator
        assert operator is not None
        lead = view.shapes[view.inputs[1]][:-2]
        turned = value if operator.weight_axis(view) == len(lead) else value.T
        proto.input[1] = self._constant(f"{view.inputs[1]}_scaled", turned.reshape(*lead, *turned.shape))
        del proto.input[2:]
        if bias is not None:
            proto.input.append(self._constant(f"{view.outputs[0]}_bias", bias))


def _powers(exponents: Sequence[int]) -> F32:
    return np.ldexp(np.float32(1), np.asarray(exponents)).astype(np.float32)
