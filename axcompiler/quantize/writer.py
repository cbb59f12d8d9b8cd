"""Writes the QDQ model: Q and DQ around every int8 activation, DQ of integer constants for weights and biases.

T (made on the AIPU)    node ─► T ─► Q ─► DQ ─► T_dq ─► all readers
T (a graph output)      node ─► T_real ─► Q ─► DQ ─► T ─► all readers
T (comes from outside)  T ─► Q ─► DQ ─► T_dq ─► readers on the AIPU; the host reads T itself
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from axforge.axcompiler.ir import Quant
from axforge.axcompiler.names import Names
from axforge.axcompiler.onnx_graph.net import has_subgraph, reads, rename_reads
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators.base import Operator, Role, Scale
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.placement.units import Unit
from axforge.axcompiler.quantize import ranges, weights
from axforge.axcompiler.quantize.algorithms import bias_correction

Array = NDArray[Any]

#: layers whose bias is corrected (MatMul has none)
CORRECTED = ("Conv", "Gemm")


class Writer:
    """Collects the nodes and constants of the QDQ model of one plan."""

    def __init__(self, model: onnx.ModelProto, plan: Plan, quants: Mapping[str, Quant], means: Mapping[str, Array]) -> None:
        self._plan, self._quants, self._means = plan, quants, means
        self._view = plan.view
        self._model = model
        names = {*(o for n in model.graph.node for o in n.output), *(t.name for t in model.graph.initializer)}
        self._names = Names({*names, *(i.name for i in model.graph.input)})
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._dequantized: dict[tuple[Any, ...], str] = {}
        self._protos = [NodeProto.FromString(p.SerializeToString()) for p in self._view.protos]

    def write(self) -> onnx.ModelProto:
        """The QDQ model."""
        for name in self._plan.quantized:
            if name in self._view.inputs:
                self._activation(name)
        for k, unit in enumerate(self._plan.parts):
            protos = [self._protos[i] for i in unit.nodes]
            if k in self._plan.aipu and unit.region is None:
                self._parameters(unit, protos[0])
            self._nodes.extend(protos)
            for name in unit.outputs:
                if name in self._quants:
                    self._activation(name)
        return self._finish()

    def _finish(self) -> onnx.ModelProto:
        read = {name for n in self._nodes for name in n.input}
        kept = [t for t in self._model.graph.initializer if t.name in read or _in_subgraph(self._nodes, t.name)]
        graph = helper.make_graph(
            self._nodes, "graph", self._model.graph.input, self._model.graph.output, [*kept, *self._constants.values()]
        )
        return helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version, producer_name="axforge")

    def _constant(self, wanted: str, value: Array) -> str:
        name = self._names.fresh(wanted)
        self._constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def _activation(self, name: str) -> None:
        """Put Q and DQ behind tensor `name`, and let its readers read the result."""
        q = self._quants[name]
        scale = self._constant(f"{name}_scale", np.asarray(q.scale, np.float32))
        zero = self._constant(f"{name}_zero_point", np.asarray(q.zero_point, np.int8))
        outside = name in self._plan.entering
        source, result = name, self._names.fresh(f"{name}_dequantized")
        if name in self._view.outputs and not outside:
            source, result = self._names.fresh(f"{name}_real"), name
            self._rename_maker(name, source)
        if self._plan.maker.get(name, -1) in self._plan.excluded:
            source = self._barrier(name)
        code = self._names.fresh(f"{name}_quantized")
        self._nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [code], self._names.fresh(f"{name}_q")))
        self._nodes.append(helper.make_node("DequantizeLinear", [code, scale, zero], [result], self._names.fresh(f"{name}_dq")))
        for k in self._plan.readers.get(name, ()):
            if result != name and (not outside or k in self._plan.aipu):
                for i in self._plan.parts[k].nodes:
                    rename_reads(self._protos[i], name, result)

    def _barrier(self, name: str) -> str:
        """A Reshape to the same shape: without it, the pattern DQ -> node -> Q would be an int8 operator to whoever reads the model."""
        shape = self._constant(f"{name}_shape", np.asarray(self._view.shapes[name], np.int64))
        result = self._names.fresh(f"{name}_float32")
        self._nodes.append(helper.make_node("Reshape", [name, shape], [result], self._names.fresh(f"{name}_keep_float32")))
        return result

    def _rename_maker(self, name: str, source: str) -> None:
        maker = self._protos[self._view.makers[name]]
        for i, output in enumerate(maker.output):
            if output == name:
                maker.output[i] = source

    def _parameters(self, unit: Unit, proto: NodeProto) -> None:
        """Weights, biases and constant operands of one node become integers."""
        node = self._view.nodes[unit.nodes[0]]
        operator = unit.operator
        assert operator is not None
        roles = operator.roles(node)
        for i, role in enumerate(roles):
            if i < len(node.inputs) and role is Role.ACTIVATION and node.constant(i) is not None:
                proto.input[i] = self._constant_operand(operator, node, i)
        if Role.WEIGHT in roles:
            self._weights(operator, node, proto, roles.index(Role.WEIGHT))

    def _constant_operand(self, operator: Operator, node: NodeView, i: int) -> str:
        value = np.asarray(node.constant(i), np.float32)
        shared = operator.scale is not Scale.OWN and node.outputs[0] in self._quants
        q = self._quants[node.outputs[0]] if shared else ranges.quant_for((float(value.min()), float(value.max())))
        key = (node.inputs[i], q.scale, q.zero_point)
        if key not in self._dequantized:
            codes = np.clip(np.rint(value / np.float32(q.scale)) + q.zero_point, -128, 127).astype(np.int8)
            self._dequantized[key] = self._dequantize(
                node.inputs[i], codes, np.asarray(q.scale, np.float32), np.asarray(q.zero_point, np.int8), None
            )
        return self._dequantized[key]

    def _weights(self, operator: Operator, node: NodeView, proto: NodeProto, at: int) -> None:
        weight = np.asarray(node.constant(at), np.float32)
        axis = operator.weight_axis(node)
        x_scale = self._quants[node.inputs[0]].scale
        groups = weights_groups(node)
        bias = self._bias(node, weight.shape[axis] * groups)
        by_group = None if bias is None else np.abs(bias.reshape(groups, -1)).max(axis=0)
        scale = weights.channel_scales(weight, axis, by_group, x_scale)
        bias = self._corrected(node, weight, scale, axis, bias)
        key = (node.inputs[at], axis, scale.tobytes())
        if key not in self._dequantized:
            codes = weights.quantize_weight(weight, scale, axis)
            self._dequantized[key] = self._dequantize(node.inputs[at], codes, scale, np.zeros(len(scale), np.int8), axis)
        proto.input[at] = self._dequantized[key]
        if bias is not None:
            product = (np.float32(x_scale) * np.tile(scale, groups)).astype(np.float32)
            codes32 = weights.quantize_bias(bias, product)
            base = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] else f"{node.name}_bias"
            name = self._dequantize(base, codes32, product, np.zeros(len(product), np.int32), 0)
            del proto.input[2:]
            proto.input.append(name)

    def _bias(self, node: NodeView, channels: int) -> Array | None:
        """The bias, one number a channel: the model's own, zeros where a correction needs one; else None."""
        has = len(node.inputs) > 2 and bool(node.inputs[2])
        own = np.asarray(node.constant(2), np.float32).reshape(-1) if has else np.zeros(1, np.float32)
        corrected = node.inputs[0] in self._means and node.op_type in CORRECTED
        return np.broadcast_to(own, (channels,)) if has or corrected else None

    def _corrected(self, node: NodeView, weight: Array, scale: Array, axis: int, bias: Array | None) -> Array | None:
        """The bias less what rounding the weights adds to the mean of each channel."""
        if bias is None or node.inputs[0] not in self._means or node.op_type not in CORRECTED:
            return bias
        codes = weights.quantize_weight(weight, scale, axis).astype(np.float64)
        rounded = codes * scale.astype(np.float64).reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
        return (bias - bias_correction.shift(node, weight, rounded, self._means[node.inputs[0]])).astype(np.float32)

    def _dequantize(self, base: str, codes: Array, scale: Array, zero: Array, axis: int | None) -> str:
        names = [
            self._constant(f"{base}_quantized", codes), self._constant(f"{base}_scale", scale),
            self._constant(f"{base}_zero_point", zero),
        ]  # fmt: skip
        result = self._names.fresh(f"{base}_dequantized")
        node = helper.make_node("DequantizeLinear", names, [result], self._names.fresh(f"{base}_dq"))
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self._nodes.append(node)
        return result


def weights_groups(node: NodeView) -> int:
    """How many channels of the result share one scale: the groups of a transposed convolution, whose weight holds M / groups."""
    return int(node.attributes.get("group", 1)) if node.op_type == "ConvTranspose" else 1


def _in_subgraph(nodes: list[NodeProto], name: str) -> bool:
    return any(name in reads(n) for n in nodes if has_subgraph(n))
