"""An int8 model computed in float32, whose scales and zero points are inputs: one session serves every choice of ranges.

    T ── QuantizeLinear(scale, zero) ── DequantizeLinear(scale, zero) ── users       weights and biases: as their codes round them

Every quantized activation has the very codes that it would have; what onnxruntime computes between them is float32 instead of exact
integers, which is far below the rounding that is judged.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Quant
from axforge.axcompiler.onnx_graph import qdq
from axforge.axcompiler.onnx_graph.sessions import FloatSession
from axforge.axcompiler.quantize.algorithm import Quantization
from axforge.axcompiler.quantize.writer import Writer

Array = NDArray[np.generic]


class CannotSimulate(CompileError):
    """onnxruntime runs the float model but refuses it with its quantization, such as in an opset newer than its QuantizeLinear."""


class FakeQuantized:
    """A quantized model that computes its outputs for any scales and zero points of its activations."""

    def __init__(self, quantization: Quantization) -> None:
        """Weights and biases are those of `quantization`, which has all activations. Raises CannotSimulate."""
        writer = Writer(quantization.model, quantization.plan, quantization.activations, quantization.layers)
        model = writer.write()
        self._parameters = writer.parameters
        self.outputs = [output.name for output in model.graph.output]
        _fold_constants(model)
        _open(model.graph, [name for names in writer.parameters.values() for name in names])
        try:
            self._session = FloatSession(model, "quantize", simulated=True)
        except CompileError as e:
            raise CannotSimulate(e.what, where=e.where) from e

    def run(self, activations: Mapping[str, Quant], sample: Mapping[str, Array], i: int) -> dict[str, Array]:
        """The outputs for sample number `i`, with these scales and zero points."""
        feeds = dict(sample)
        for tensor, (scale, zero) in self._parameters.items():
            quant = activations[tensor]
            feeds[scale], feeds[zero] = np.asarray(quant.scale, np.float32), np.asarray(quant.zero_point, np.int8)
        return dict(self._session.run(self.outputs, feeds, i))


def _fold_constants(model: onnx.ModelProto) -> None:
    """Replace each DequantizeLinear of a constant by the real numbers that it makes."""
    graph, found = model.graph, qdq.read(model)
    kept = [node for node in graph.node if not (node.output and node.output[0] in found.constants)]
    read = {name for node in kept for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(found.view.constants[name], order="C"), name) for name in sorted(found.constants) if name in read
    )
    del graph.node[:]
    graph.node.extend(kept)


def _open(graph: onnx.GraphProto, names: Iterable[str]) -> None:
    """Make inputs of the constants `names`."""
    opened = set(names)
    constants = [t for t in graph.initializer if t.name not in opened]
    types = {t.name: t.data_type for t in graph.initializer if t.name in opened}
    del graph.initializer[:]
    graph.initializer.extend(constants)
    graph.input.extend(helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), []) for name in sorted(opened))
