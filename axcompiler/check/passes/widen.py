"""Models stored in float16 become float32 models: int8 is made from real numbers, and float16 is only a way to store them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import TensorProto, numpy_helper

from axforge.axcompiler.check.passes.base import ModelPass
from axforge.axcompiler.operators import find
from axforge.axcompiler.passes import PassResult

#: attributes that name an element type
_TYPED = ("to", "dtype", "output_dtype", "precision")


@dataclass(frozen=True)
class Widen(ModelPass):
    """Make every float16 in the model a float32, inputs and outputs too, if a layer has float16 weights.

    x float16 ── Conv (weight float16)      becomes      x float32 ── Conv (weight float32)

    A model that only passes float16 values through keeps them.
    """

    at: ClassVar[tuple[int, ...]] = (140,)

    def apply(self, model: onnx.ModelProto) -> PassResult[onnx.ModelProto]:
        """Rewrite the model once."""
        constants = {t.name: t.data_type for t in model.graph.initializer}
        constants |= {
            n.output[0]: a.t.data_type for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"
        }
        layers = [n for n in model.graph.node if (operator := find(n.op_type, n.domain)) and operator.multiplies]
        if any(constants.get(name) == TensorProto.FLOAT16 for n in layers for name in n.input):
            _widen(model)
            return PassResult(model, ("float16 became float32",))
        return PassResult(model)


def _widen(message: Message) -> None:
    if isinstance(message, TensorProto):
        if message.data_type == TensorProto.FLOAT16:
            message.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(message).astype(np.float32), message.name))
    elif isinstance(message, onnx.TypeProto.Tensor | onnx.TypeProto.SparseTensor):
        if message.elem_type == TensorProto.FLOAT16:
            message.elem_type = TensorProto.FLOAT
    elif isinstance(message, onnx.AttributeProto) and message.name in _TYPED and message.i == TensorProto.FLOAT16:
        message.i = TensorProto.FLOAT
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in (value,) if isinstance(value, Message) else value:
                _widen(part)
