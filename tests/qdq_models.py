"""Small QDQ models for tests: quantize a tensor, add nodes, compare the fused graph with onnxruntime."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from axforge.axcompiler import ir, optimize
from axforge.axcompiler.reference import Reference


class Model:
    """Grows a QDQ model. Every method that adds a tensor returns its name."""

    def __init__(self, opset: int = 17, *, unsigned: bool = False) -> None:
        self.opset, self.unsigned = opset, unsigned
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[str] = []

    def input(self, name: str, shape: tuple[int, ...], kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op_type: str, *inputs: str, n: int = 1, out: str = "", domain: str = "", **attributes: Any) -> str:
        """Adds a node; its first output."""
        outs = [out or f"t{len(self.nodes)}_{i}" for i in range(n)]
        node = helper.make_node(op_type, list(inputs), outs, name=f"n{len(self.nodes)}_{op_type}", domain=domain, **attributes)
        self.nodes.append(node)
        return outs[0]

    def qdq(self, x: str, scale: float, zero_point: int, out: str = "") -> str:
        """x -> Q -> DQ. zero_point: as int8; stored as uint8 + 128 in an unsigned model."""
        s = self.constant(scale)
        z = self.constant(zero_point + 128, np.uint8) if self.unsigned else self.constant(zero_point, np.int8)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, s, z), s, z, out=out)

    def weight(self, codes: np.ndarray, scales: Any, axis: int = 0) -> str:
        """DQ of int8 codes; one scale, or one a channel along `axis` (opset 13 on)."""
        s = np.asarray(scales, np.float32)
        per_axis = {"axis": axis} if s.ndim else {}
        return self.node(
            "DequantizeLinear", self.constant(codes, np.int8), self.constant(s), self.constant(np.zeros(s.shape), np.int8), **per_axis
        )

    def bias(self, codes: np.ndarray, scales: Any) -> str:
        """DQ of int32 codes."""
        s = np.asarray(scales, np.float32)
        per_axis = {"axis": 0} if s.ndim else {}
        zero = self.constant(np.zeros(s.shape), np.int32)
        return self.node("DequantizeLinear", self.constant(codes, np.int32), self.constant(s), zero, **per_axis)

    def build(self, *outputs: str) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs]
        for info in infos:
            info.ClearField("type")
        graph = helper.make_graph(self.nodes, "g", self.inputs, infos, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        known = {v.name: v for v in (*inferred.graph.value_info, *inferred.graph.output)}
        del model.graph.output[:]
        model.graph.output.extend(known[name] for name in outputs)
        return model


def plain_run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """onnxruntime's answer, node by node in float32."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def kinds(graph: ir.Graph) -> list[str]:
    """Operator names in order."""
    return [type(op).__name__ for op in graph.ops]


def compiled(model: onnx.ModelProto) -> ir.Graph:
    return optimize.optimize(model)


def assert_within(model: onnx.ModelProto, feeds: dict[str, np.ndarray], quanta: float = 1.0) -> ir.Graph:
    """The fused graph's answer lies within `quanta` of onnxruntime's; float outputs within float error. Returns the graph."""
    graph = compiled(model)
    answers = Reference(graph).run(feeds)
    for (name, got), want in zip(answers.items(), plain_run(model, feeds), strict=True):
        quant = graph.tensors[name].quant
        assert got.shape == want.shape
        if quant:
            assert np.abs(got - want).max(initial=0) <= quanta * quant.scale * 1.001 + 1e-12, name
        else:
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    return graph
