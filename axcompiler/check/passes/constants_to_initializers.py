"""Constant nodes become initializers."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from axforge.axcompiler.check.passes.base import PreparingPass
from axforge.axcompiler.onnx_graph.net import Net


@dataclass(frozen=True)
class ConstantsToInitializers(PreparingPass):
    """Turn Constant nodes into initializers.

    Constant ── c ── op      becomes      op with the initializer c
    """

    at: ClassVar[tuple[int, ...]] = (240,)

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        done, notes = [], []
        for node in net.nodes:
            value = _constant_value(node) if node.op_type == "Constant" and node.domain in ("", "ai.onnx") else None
            if value is None:
                continue
            notes.append(f"made a constant of '{node.name}'")
            if node.output[0] in net.output_names:  # what the user reads must be made by a node
                name = net.add_constant(f"{node.output[0]}_value", numpy_helper.to_array(value))
                del node.attribute[:]
                node.op_type = "Identity"
                node.input.append(name)
            else:
                value.name = node.output[0]
                net.constants[node.output[0]] = value
                done.append(node)
        net.remove(done, "it is a constant")
        return notes


def _constant_value(node: NodeProto) -> TensorProto | None:
    a = node.attribute[0]
    if a.name == "value":
        return TensorProto.FromString(a.t.SerializeToString())
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    return numpy_helper.from_array(np.asarray(helper.get_attribute_value(a), kinds[a.name])) if a.name in kinds else None
