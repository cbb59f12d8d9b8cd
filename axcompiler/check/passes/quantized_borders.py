"""Inputs and outputs that are codes get a QuantizeLinear and a DequantizeLinear of their own, so that what is inside is read as int8."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnx import NodeProto, TensorProto, helper

from axforge.axcompiler.check.passes.base import PreparingPass
from axforge.axcompiler.check.quantized import pair
from axforge.axcompiler.names import Names
from axforge.axcompiler.onnx_graph.net import Net, rename_reads

_CODES = (TensorProto.INT8, TensorProto.UINT8)


@dataclass(frozen=True)
class QuantizedBorders(PreparingPass):
    """Separate codes that go into or out of the model from those inside.

    x (uint8) ── DQ ── op ── Q ── y (uint8)      becomes      x ── DQ ── Q ── DQ ── op ── Q ── DQ ── Q ── y

    The numbers are the same; the outermost Q and DQ run on the CPU, and what is between them on the AIPU.
    """

    at: ClassVar[tuple[int, ...]] = (280,)

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        names = Names({*net.names(), *(node.name for node in net.nodes)})
        inputs = {i.name for i in net.inputs if i.type.tensor_type.elem_type in _CODES}
        users, makers = net.users(), net.makers()
        nodes, notes = [], []
        for node in net.nodes:
            nodes.append(node)
            if node.op_type == "DequantizeLinear" and node.input[0] in inputs and not _only_quantized(users.get(node.output[0], [])):
                outer = names.fresh(f"{node.input[0]}_real")
                nodes[-1:] = [_dequantized(node, node.input[0], outer, names), *pair(outer, node.output[0], node.input[1:], names)]
                notes.append(f"separated the input '{node.input[0]}'")
                net.removed.setdefault(node.name, (node.op_type, "it was written apart from what is inside"))
            made_by_dequantize = makers[node.input[0]].op_type == "DequantizeLinear" if node.input and node.input[0] in makers else False
            if node.op_type == "QuantizeLinear" and node.output[0] in net.output_names and not made_by_dequantize:
                nodes += _outer(net, node, users.get(node.output[0], []), names)
                notes.append(f"separated the output '{nodes[-1].output[0]}'")
        net.nodes = nodes
        return notes


def _only_quantized(readers: Sequence[NodeProto]) -> bool:
    return bool(readers) and all(reader.op_type == "QuantizeLinear" for reader in readers)


def _dequantized(like: NodeProto, codes: str, real: str, names: Names) -> NodeProto:
    node = helper.make_node("DequantizeLinear", [codes, *like.input[1:]], [real], names.fresh(f"DequantizeLinear_{real}"))
    node.attribute.extend(like.attribute)
    return node


def _outer(net: Net, node: NodeProto, readers: Sequence[NodeProto], names: Names) -> list[NodeProto]:
    """Let `node` make codes of another name, which become the output through a pair."""
    output, inner = node.output[0], names.fresh(f"{node.output[0]}_inner")
    node.output[0] = inner
    for reader in readers:
        rename_reads(reader, output, inner)
    real = names.fresh(f"{output}_real")
    last = helper.make_node("QuantizeLinear", [real, *node.input[1:]], [output], names.fresh(f"QuantizeLinear_{output}"))
    return [helper.make_node("DequantizeLinear", [inner, *node.input[1:]], [real], names.fresh(f"DequantizeLinear_{real}")), last]
