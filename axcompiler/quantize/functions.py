"""One-input regions as functions of numbers, for choosing ranges by what they make of a value."""

import warnings
from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from axforge.axcompiler.onnx_graph.views import ModelView
from axforge.axcompiler.placement.units import Unit

F64 = NDArray[np.float64]


def function_of(view: ModelView, unit: Unit, opsets: list[onnx.OperatorSetIdProto]) -> Callable[[F64], F64]:
    """The region `unit` as a function of a vector, computed in float64."""
    nodes = [view.protos[i] for i in unit.nodes]
    source, result = unit.inputs[0], unit.outputs[0]
    used = sorted({name for node in nodes for name in node.input if name in view.constants})
    constants = [numpy_helper.from_array(_wide(view.constants[n]), n) for n in used]
    infos = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in (source, result)]
    evaluator = ReferenceEvaluator(
        helper.make_model(helper.make_graph(nodes, "function", infos[:1], infos[1:], constants), opset_imports=opsets)
    )

    def apply(x: F64) -> F64:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            (result, *_) = evaluator.run(None, {source: x})
        return np.broadcast_to(np.asarray(result, np.float64).reshape(-1), x.shape)

    return apply


def _wide(value: NDArray[np.generic]) -> NDArray[np.generic]:
    return value.astype(np.float64) if value.dtype == np.float32 else value
