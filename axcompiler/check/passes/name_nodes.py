"""Every node gets a name of its own."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import onnx
from onnx import NodeProto

from axforge.axcompiler.check.passes.base import ModelPass
from axforge.axcompiler.names import Names
from axforge.axcompiler.passes import PassResult


@dataclass(frozen=True)
class NameNodes(ModelPass):
    """Give every node a name of its own: the one it has, else operator and first result, with a number where taken.

    Relu "" ── y      becomes      Relu "Relu_y" ── y
    """

    at: ClassVar[tuple[int, ...]] = (160,)

    def apply(self, model: onnx.ModelProto) -> PassResult[onnx.ModelProto]:
        """Rewrite the model once."""
        return PassResult(model, tuple(name_nodes(model.graph.node)))


def name_nodes(nodes: Iterable[NodeProto]) -> list[str]:
    """Give every node a name of its own, and say which names are new."""
    names, notes = Names(), []
    for node in nodes:
        name = names.fresh(node.name or f"{node.op_type}_{next((o for o in node.output if o), '')}")
        if name != node.name:
            notes.append(f"named '{name}'")
            node.name = name
    return notes
