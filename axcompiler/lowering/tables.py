"""The 256 entries of a function of one tensor: its nodes are evaluated once, in float64, on the 256 real numbers a code can mean."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from axforge.axcompiler.ir import Quant
from axforge.axcompiler.numerics import Array, dequantize, quantize

I8 = NDArray[np.int8]
CODES = np.arange(-128, 128).astype(np.int8)


def rescale(source: Quant, target: Quant) -> I8:
    """Table that brings codes of one scale to another."""
    return quantize(dequantize(CODES, source.scale, source.zero_point), target.scale, target.zero_point)


def compose(first: I8, second: I8) -> I8:
    """Table of second(first(x))."""
    return np.asarray(second[first.astype(np.int16) + 128])


def function(
    nodes: Sequence[onnx.NodeProto],
    source: str,
    result: str,
    constants: Mapping[str, Array],
    opsets: Sequence[onnx.OperatorSetIdProto],
    quants: tuple[Quant, Quant],
) -> I8:
    """Table of the function that `nodes` make of `source`, from codes of quants[0] to codes of quants[1].

    float64, so that the last bit of this machine's exponential does not decide a code.
    """
    x = dequantize(CODES, quants[0].scale, quants[0].zero_point).astype(np.float64)
    used = sorted({name for node in nodes for name in node.input if name in constants})
    initializers = [numpy_helper.from_array(_wide(constants[name]), name) for name in used]
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in (source, result)]
    graph = helper.make_graph(list(nodes), "function", infos[:1], infos[1:], initializers)
    model = helper.make_model(graph, opset_imports=list(opsets))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        results: Any = ReferenceEvaluator(model).run(None, {source: x})
    y = np.broadcast_to(np.asarray(results[0], np.float64).reshape(-1), (256,))
    return quantize(y, quants[1].scale, quants[1].zero_point)


def _wide(value: Array) -> Array:
    return value.astype(np.float64) if value.dtype == np.float32 else value
