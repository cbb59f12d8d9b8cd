"""Remarks are removed."""

from dataclasses import dataclass
from typing import ClassVar

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]

from axforge.axcompiler.check.passes.base import ModelPass
from axforge.axcompiler.passes import PassResult


@dataclass(frozen=True)
class Strip(ModelPass):
    """Clear remarks and metadata everywhere in the model: they decide nothing.

    node (doc_string, metadata_props)      becomes      node
    """

    at: ClassVar[tuple[int, ...]] = (100,)

    def apply(self, model: onnx.ModelProto) -> PassResult[onnx.ModelProto]:
        """Rewrite the model once."""
        before = model.ByteSize()
        strip(model)
        saved = before - model.ByteSize()
        return PassResult(model, (f"cleared {saved} bytes",) if saved else ())


def strip(message: Message) -> None:
    """Clear doc strings and metadata in a part of a model, recursively."""
    for field in ("doc_string", "metadata_props", "denotation"):
        if field in message.DESCRIPTOR.fields_by_name:
            message.ClearField(field)
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE and field.name not in ("raw_data",):
            for part in value if _repeated(value) else (value,):
                strip(part)


def _repeated(value: object) -> bool:
    return not isinstance(value, Message)
