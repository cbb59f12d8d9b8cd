"""Copies of codes that a QDQ model writes between Q and DQ are moved behind the DQ, where the reader of QDQ understands them.

    x ── Q ── Reshape ── DQ ── y      becomes      x ── Q ── DQ ── Reshape ── Q ── DQ ── y

The numbers are the same: a copy of codes dequantizes to the copy of the real numbers, and quantizes back to itself.
"""

from collections.abc import Callable, Iterable, Sequence

import onnx
from onnx import helper

from axforge.axcompiler.onnx_graph.views import constants_of
from axforge.axcompiler.operators import find


def lift_copies(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with integer copies of QuantizeLinear's results in float; the same object if there are none."""
    constants = constants_of(model.graph)
    nodes = lifted(model.graph.node, lambda name: name in constants and constants[name].size == 1)
    if len(nodes) == len(model.graph.node):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    del result.graph.value_info[:]  # inferred again
    return result


def lifted(given: Iterable[onnx.NodeProto], is_number: Callable[[str], bool]) -> list[onnx.NodeProto]:
    """The nodes, in order, with integer copies of QuantizeLinear's results in float. is_number: whether a name is a constant number."""
    parameters: dict[str, Sequence[str]] = {}
    nodes: list[onnx.NodeProto] = []
    for node in given:
        if node.op_type == "QuantizeLinear" and is_number(node.input[1]):
            parameters[node.output[0]] = list(node.input[1:])
        operator = find(node.op_type, node.domain)
        copied = operator.copied_codes(node) if operator else ()
        if copied and node.input[0] in parameters:
            parameters |= dict.fromkeys(node.output, parameters[node.input[0]])
            nodes += _lifted(node, copied, parameters[node.input[0]])
        else:
            nodes.append(node)
    return nodes


def _lifted(node: onnx.NodeProto, copied: Sequence[int], parameters: Sequence[str]) -> list[onnx.NodeProto]:
    """The copy in float. copied: inputs that hold codes."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    target = node.output[0]
    before, after = [], []
    for i in copied:
        copy.input[i] = f"{node.input[i]}.{target}.real"
        before.append(helper.make_node("DequantizeLinear", [node.input[i], *parameters], [copy.input[i]], name=f"{target}.dq{i or ''}"))
    for i, codes in enumerate(node.output):
        copy.output[i] = f"{codes}.real"
        after.append(helper.make_node("QuantizeLinear", [copy.output[i], *parameters], [codes], name=f"{codes}.q"))
    return [*before, copy, *after]
