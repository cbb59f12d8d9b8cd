"""Writes the QDQ model: Q and DQ around every int8 activation, DQ of integer constants for weights and biases.

T (made on the AIPU)    node ─► T ─► Q ─► DQ ─► T_dq ─► all readers
T (a graph output)      node ─► T_real ─► Q ─► DQ ─► T ─► all readers
T (comes from outside)  T ─► Q ─► DQ ─► T_dq ─► readers on the AIPU; the host reads T itself
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from axforge.axcompiler.ir import Quant
from axforge.axcompiler.names import Names
from axforge.axcompiler.onnx_graph.net import has_subgraph, reads, rename_reads
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators.base import Operator, Role, Scale
from axforge.axcompiler.placement import decision, masks
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.placement.units import Unit
from axforge.axcompiler.quantize import ranges, weights
from axforge.axcompiler.quantize.layers import QuantizedLayer

Array = NDArray[np.generic]


class Writer:
    """Collects the nodes and constants of the QDQ model of one plan.

    parameters: names of the constants that are the scale and the zero point of each activation, once the model is written.
    """

    def __init__(self, model: onnx.ModelProto, plan: Plan, quants: Mapping[str, Quant], layers: Mapping[str, QuantizedLayer]) -> None:
        self._plan, self._quants, self._layers = plan, quants, layers
        self._view = plan.view
        self._model = model
        names = {*(o for n in model.graph.node for o in n.output), *(t.name for t in model.graph.initializer)}
        self._names = Names({*names, *(i.name for i in model.graph.input)})
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self.parameters: dict[str, tuple[str, str]] = {}
        self._dequantized: dict[tuple[str, float, int] | tuple[str, int, bytes], str] = {}
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
        read = {name for n in self._nodes for name in (reads(n) if has_subgraph(n) else n.input)}
        kept = [t for t in self._model.graph.initializer if t.name in read]
        graph = helper.make_graph(
            self._nodes, "graph", self._model.graph.input, self._model.graph.output, [*kept, *self._constants.values()]
        )
        opsets, version = self._model.opset_import, self._model.ir_version
        model = helper.make_model(graph, opset_imports=opsets, ir_version=version, producer_name="axforge")
        decision.record(model, self._plan.decision)
        return model

    def _constant(self, wanted: str, value: Array) -> str:
        name = self._names.fresh(wanted)
        self._constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def _activation(self, name: str) -> None:
        """Put Q and DQ behind tensor `name`, and let its readers read the result."""
        q = self._quants[name]
        scale = self._constant(f"{name}_scale", np.asarray(q.scale, np.float32))
        zero = self._constant(f"{name}_zero_point", np.asarray(q.zero_point, np.int8))
        self.parameters[name] = scale, zero
        outside = name in self._plan.entering
        source, result = name, self._names.fresh(f"{name}_dequantized")
        if name in self._view.outputs and not outside:
            source, result = self._names.fresh(f"{name}_real"), name
            self._rename_maker(name, source)
        code = self._names.fresh(f"{name}_quantized")
        self._nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [code], self._names.fresh(f"{name}_q")))
        self._nodes.append(helper.make_node("DequantizeLinear", [code, scale, zero], [result], self._names.fresh(f"{name}_dq")))
        for k in self._plan.readers.get(name, ()):
            if result != name and (not outside or k in self._plan.aipu):
                for i in self._plan.parts[k].nodes:
                    rename_reads(self._protos[i], name, result)

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
        if node.outputs[0] in self._layers:
            self._layer(self._layers[node.outputs[0]], proto)

    def _constant_operand(self, operator: Operator, node: NodeView, i: int) -> str:
        value = self._saturated(node, np.asarray(node.constant(i), np.float32))
        shared = operator.scale is not Scale.OWN and node.outputs[0] in self._quants
        q = self._quants[node.outputs[0]] if shared else ranges.quant_for((float(value.min()), float(value.max())))
        key = (node.inputs[i], q.scale, q.zero_point)
        if key not in self._dequantized:
            codes = np.clip(np.rint(value / np.float32(q.scale)) + q.zero_point, -128, 127).astype(np.int8)
            self._dequantized[key] = self._dequantize(
                node.inputs[i], codes, np.asarray(q.scale, np.float32), np.asarray(q.zero_point, np.int8), None
            )
        return self._dequantized[key]

    def _saturated(self, node: NodeView, value: NDArray[np.float32]) -> NDArray[np.float32]:
        """A constant mask, raised to what still takes the highest score to the lowest code of their sum."""
        result = self._quants.get(node.outputs[0])
        if result is None or not value.size or value.min() > masks.MASK or node.outputs[0] not in masks.scores(self._plan):
            return value
        highest = sum(max((127 - q.zero_point) * q.scale, 0.0) for q in map(self._quants.get, node.inputs) if q is not None)
        return np.maximum(value, np.float32((-128 - result.zero_point) * result.scale - highest))

    def _layer(self, layer: QuantizedLayer, proto: NodeProto) -> None:
        node = layer.node
        wanted = node.inputs[layer.weight_input]
        key = (wanted, layer.axis, layer.scale.tobytes())
        if key not in self._dequantized:
            zeros = np.zeros(len(layer.scale), np.int8)
            self._dequantized[key] = self._dequantize(wanted, layer.codes, layer.scale, zeros, layer.axis)
        proto.input[layer.weight_input] = self._dequantized[key]
        if layer.bias is not None:
            codes = weights.quantize_bias(layer.bias, layer.product_scale)
            base = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] else f"{node.name}_bias"
            name = self._dequantize(base, codes, layer.product_scale, np.zeros(len(codes), np.int32), 0)
            del proto.input[2:]
            proto.input.append(name)

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
