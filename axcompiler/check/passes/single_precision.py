"""Models in float16 or float64 become float32 models: int8 is made from real numbers, and these are only ways to store them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import TensorProto, numpy_helper

from axforge.axcompiler.check.passes.base import ModelPass
from axforge.axcompiler.operators import find
from axforge.axcompiler.passes import PassResult

#: the types that become float32
_OTHERS: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "float64"}
#: attributes that name an element type
_TYPED = ("to", "dtype", "output_dtype", "precision")


@dataclass(frozen=True)
class SinglePrecision(ModelPass):
    """Make every float16 in the model a float32, inputs and outputs too, if a layer has float16 weights; and so for float64.

    x float64 ── Conv (weight float64)      becomes      x float32 ── Conv (weight float32)

    A model that only passes such values through keeps them.
    """

    at: ClassVar[tuple[int, ...]] = (140,)

    def apply(self, model: onnx.ModelProto) -> PassResult[onnx.ModelProto]:
        """Rewrite the model once."""
        constants = {t.name: t.data_type for t in model.graph.initializer}
        constants |= {
            n.output[0]: a.t.data_type for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"
        }
        layers = [n for n in model.graph.node if (operator := find(n.op_type, n.domain)) and operator.multiplies]
        weights = {constants.get(name) for n in layers for name in n.input}
        found = {kind: name for kind, name in _OTHERS.items() if kind in weights}
        if found:
            _to_single(model, found)
        return PassResult(model, tuple(f"{name} became float32" for name in found.values()))


def _to_single(message: Message, types: Mapping[int, str]) -> None:
    """Make elements of these types float32 everywhere in a part of a model. What is too large for it becomes infinite (refused later)."""
    if isinstance(message, TensorProto):
        if message.data_type in types:
            with np.errstate(over="ignore"):
                message.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(message).astype(np.float32), message.name))
    elif isinstance(message, onnx.TypeProto.Tensor | onnx.TypeProto.SparseTensor):
        if message.elem_type in types:
            message.elem_type = TensorProto.FLOAT
    elif isinstance(message, onnx.AttributeProto) and message.name in _TYPED and message.i in types:
        message.i = TensorProto.FLOAT
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in (value,) if isinstance(value, Message) else value:
                _to_single(part, types)
