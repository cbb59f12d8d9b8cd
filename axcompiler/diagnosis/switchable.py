"""An int8 model computed in float32, in which the rounding of each activation can be switched off or given another range.

    T ── Q ── DQ ── users    becomes    T ── Div(scale) ── Round ── Clip(lo, hi) ── Mul(scale) ── users

with scale, lo and hi as inputs: a step of 2**-20 scales and no bounds leave the numbers as they are. Weights are those that their codes
stand for.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from axforge.axcompiler.ir import Quant
from axforge.axcompiler.names import Names
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.onnx_graph import qdq
from axforge.axcompiler.onnx_graph.sessions import FloatSession
from axforge.axcompiler.operators.base import Scale, find

#: a step so many powers of two below the scale rounds nothing that matters
_FINE = 20
_FREE = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Quantizer:
    """Tensors that share a scale because their codes are copied from one to the other. tensors: as they flow; the first gives the name.

    maker: the node that makes the first one, '' for an input of the model.
    """

    tensors: tuple[str, ...]
    quant: Quant
    maker: str
    op_type: str

    @property
    def name(self) -> str:
        """The first tensor."""
        return self.tensors[0]

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest real number that has a code."""
        return (-128 - self.quant.zero_point) * self.quant.scale, (127 - self.quant.zero_point) * self.quant.scale


class Switchable:
    """The model of a QDQ model. Raises CompileError where onnxruntime does not run it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        found = qdq.read(model)
        self.quantizers = _quantizers(found)
        self.outputs = list(found.view.outputs)
        self._inputs: dict[str, tuple[str, str, str]] = {}
        self._session = FloatSession(self._switchable(model, found), "diagnosis")

    def run(
        self,
        sample: Mapping[str, Array],
        names: Collection[str] = (),
        off: Collection[str] = (),
        other: Mapping[str, Quant] | None = None,
    ) -> dict[str, Array]:
        """The outputs, and the real numbers of tensors `names` before they are rounded.

        off: names of the quantizers that do nothing. other: quantizers, by name, with another scale and zero point than they have.
        """
        feeds = dict(sample)
        for quantizer in self.quantizers:
            quant = (other or {}).get(quantizer.name, quantizer.quant)
            exact = quantizer.name in off
            scale = 2.0 ** (math.floor(math.log2(quant.scale)) - _FINE) if exact else quant.scale
            lo, hi = (-_FREE, _FREE) if exact else (-128.0 - quant.zero_point, 127.0 - quant.zero_point)
            for name, value in zip(self._inputs[quantizer.name], (scale, lo, hi), strict=True):
                feeds[name] = np.asarray(value, np.float32)
        return dict(self._session.run([*self.outputs, *names], feeds, 0))

    def _switchable(self, model: onnx.ModelProto, found: qdq.Qdq) -> onnx.ModelProto:
        graph = model.graph
        names = Names({*(o for n in graph.node for o in n.output), *(t.name for t in graph.initializer), *(i.name for i in graph.input)})
        made: dict[tuple[str, Quant], str] = {}
        coded = {code.q: code for codes in found.codes.values() for code in codes}
        group = {tensor: quantizer for quantizer in self.quantizers for tensor in quantizer.tensors}
        for quantizer in self.quantizers:
            step, lowest, highest = (names.fresh(f"{quantizer.name}_{part}") for part in ("step", "lowest", "highest"))
            self._inputs[quantizer.name] = step, lowest, highest
        nodes: list[NodeProto] = []
        for proto in graph.node:
            result = proto.output[0] if proto.output else ""
            if result in found.constants:
                continue
            code = coded.get(result) if proto.op_type == "QuantizeLinear" else None
            read = found.dequantized.get(result)
            if code is not None:
                if (code.real, code.quant) not in made:
                    made[code.real, code.quant] = names.fresh(f"{code.real}_rounded")
                    nodes += _rounding(code.real, made[code.real, code.quant], self._inputs[group[code.real].name], names)
            elif read is not None:
                nodes.append(helper.make_node("Identity", [made[read.real, read.quant]], [result], names.fresh("identity")))
            else:
                nodes.append(NodeProto.FromString(proto.SerializeToString()))
        return self._assembled(model, found, nodes)

    def _assembled(self, model: onnx.ModelProto, found: qdq.Qdq, nodes: list[NodeProto]) -> onnx.ModelProto:
        read = {name for node in nodes for name in node.input}
        weights = [numpy_helper.from_array(np.asarray(found.view.constants[n], order="C"), n) for n in sorted(found.constants) if n in read]
        opened = [helper.make_tensor_value_info(n, TensorProto.FLOAT, []) for three in self._inputs.values() for n in three]
        outputs = [*model.graph.output]
        shown = {tensor for quantizer in self.quantizers for tensor in quantizer.tensors} - {*found.view.outputs, *found.view.inputs}
        outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sorted(shown)]
        graph = helper.make_graph(nodes, "graph", [*model.graph.input, *opened], outputs, [*model.graph.initializer, *weights])
        graph.value_info.extend(model.graph.value_info)
        return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _rounding(real: str, result: str, inputs: Iterable[str], names: Names) -> list[NodeProto]:
    step, lowest, highest = inputs
    share, code, kept = (names.fresh(f"{result}_{part}") for part in ("share", "code", "kept"))
    return [
        helper.make_node("Div", [real, step], [share], names.fresh("div")),
        helper.make_node("Round", [share], [code], names.fresh("round")),
        helper.make_node("Clip", [code, lowest, highest], [kept], names.fresh("clip")),
        helper.make_node("Mul", [kept, step], [result], names.fresh("mul")),
    ]


def _quantizers(found: qdq.Qdq) -> list[Quantizer]:
    """The quantized activations in the order in which they are made, those with copied codes together."""
    seen = found.view
    members: dict[str, list[str]] = {}
    leader: dict[str, str] = {}
    for real, codes in sorted(found.codes.items(), key=lambda item: seen.makers.get(item[0], -1)):
        leader[real] = _copied_from(found, real, codes[0].quant, leader) or real
        members.setdefault(leader[real], []).append(real)
    made = []
    for name, tensors in members.items():
        maker = seen.nodes[seen.makers[name]] if name in seen.makers else None
        made.append(Quantizer(tuple(tensors), found.codes[name][0].quant, maker.name if maker else "", maker.op_type if maker else ""))
    return made


def _copied_from(found: qdq.Qdq, real: str, quant: Quant, leader: Mapping[str, str]) -> str | None:
    """The tensor whose codes the operator that makes `real` copies, if their scales are equal."""
    seen = found.view
    if real not in seen.makers:
        return None
    node = seen.nodes[seen.makers[real]]
    operator = find(node.op_type, node.domain)
    if operator is None or operator.scale is Scale.OWN:
        return None
    sources = [found.dequantized[name] for name in node.inputs if name in found.dequantized]
    return next((leader[code.real] for code in sources if code.quant == quant and code.real in leader), None)
