"""One-input regions as functions of numbers, for choosing ranges by what they make of a value."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from axcompiler.check.units import Unit
from axcompiler.operators.views import ModelView

F64 = NDArray[np.float64]


def function_of(view: ModelView, unit: Unit, opsets: list[onnx.OperatorSetIdProto]) -> Callable[[F64], F64]:
    """The region `unit` as a function of a vector, computed by onnxruntime in float32."""
    nodes = [view.protos[i] for i in unit.nodes]
    source, result = unit.inputs[0], unit.outputs[0]
    used = sorted({name for node in nodes for name in node.input if name in view.constants})
    constants = [numpy_helper.from_array(np.asarray(view.constants[n]), n) for n in used]
    rank = len(view.shapes[source])
    shape = [1] * (rank - 1) + ["n"] if rank else []
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in (source, result)]
    model = helper.make_model(helper.make_graph(nodes, "function", infos[:1], infos[1:], constants), opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def apply(x: F64) -> F64:
        feed = x.astype(np.float32).reshape([1] * (rank - 1) + [-1])
        return np.asarray(session.run([result], {source: feed})[0], np.float64).reshape(-1)

    return apply
