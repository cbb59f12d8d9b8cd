"""Initializers get raw data and nothing else."""

from dataclasses import dataclass
from typing import ClassVar

from onnx import numpy_helper

from axforge.axcompiler.check.passes.base import PreparingPass
from axforge.axcompiler.onnx_graph.net import Net


@dataclass(frozen=True)
class Tidy(PreparingPass):
    """Give initializers raw data and nothing else, so that equal values are equal bytes.

    initializer (float_data, doc_string)      becomes      initializer (raw_data)
    """

    at: ClassVar[tuple[int, ...]] = (220,)

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        notes = []
        for name, tensor in net.constants.items():
            if tensor.data_type != 8 and not (tensor.HasField("raw_data") and not tensor.doc_string and not tensor.metadata_props):
                net.constants[name] = numpy_helper.from_array(numpy_helper.to_array(tensor), name)
                notes.append(f"rewrote the constant '{name}'")
        return notes
