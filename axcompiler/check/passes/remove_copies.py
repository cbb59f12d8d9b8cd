"""Copies are removed."""

from dataclasses import dataclass
from typing import ClassVar

from onnx import NodeProto

from axforge.axcompiler.check.passes.base import RepeatedPass
from axforge.axcompiler.onnx_graph.net import Net, attribute, reads


@dataclass(frozen=True)
class RemoveCopies(RepeatedPass):
    """Remove nodes that copy their operand.

    x ── Identity | Dropout | Cast to its own type ── y ── op      becomes      x ── op

    A copy between an input and an output stays.
    """

    at: ClassVar[tuple[int, ...]] = (320,)
    on_quantized: ClassVar[bool] = True

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        dead = []
        made_outputs = {o for n in net.nodes for o in n.output} & net.output_names
        for node in net.nodes:
            if not _is_copy(net, node):
                continue
            x, y = node.input[0], node.output[0]
            if y in net.output_names:
                maker = net.makers().get(x)
                if maker is None or x in net.output_names or y not in made_outputs:
                    continue
                for i, o in enumerate(maker.output):
                    if o == x:
                        maker.output[i] = y
                net.replace_value(x, y)
            else:
                net.replace_value(y, x)
            dead.append(node)
        net.remove(dead, "it only copies its operand")
        return [f"removed the copy '{node.name}'" for node in dead]


def _is_copy(net: Net, node: NodeProto) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Identity":
        return net.types.get(node.input[0], 0) != 0
    if node.op_type == "Dropout":
        mask_unused = len(node.output) < 2 or not node.output[1] or not _is_read(net, node.output[1])
        training = len(node.input) > 2 and node.input[2] and net.constant(node.input[2])
        unknown = len(node.input) > 2 and node.input[2] and node.input[2] not in net.constants
        return mask_unused and not unknown and not bool(training)
    if node.op_type == "Cast":
        return net.types.get(node.input[0], 0) == attribute(node, "to")
    return False


def _is_read(net: Net, name: str) -> bool:
    return name in net.output_names or any(name in reads(node) for node in net.nodes)
