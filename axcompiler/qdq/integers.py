"""Copies of codes that a QDQ model writes between Q and DQ are moved behind the DQ, where the reader of QDQ understands them.

    x ── Q ── Reshape ── DQ ── y      becomes      x ── Q ── DQ ── Reshape ── Q ── DQ ── y

The numbers are the same: a copy of codes dequantizes to the copy of the real numbers, and quantizes back to itself.
"""

from collections.abc import Sequence

import onnx
from onnx import helper

from axforge.axcompiler.onnx_graph.views import constants_of
from axforge.axcompiler.operators import find


def lift_copies(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with integer copies of QuantizeLinear's results in float; the same object if there are none."""
    parameters: dict[str, Sequence[str]] = {}
    nodes: list[onnx.NodeProto] = []
    constants = constants_of(model.graph)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[1] in constants and constants[node.input[1]].size == 1:
            parameters[node.output[0]] = list(node.input[1:])
        operator = find(node.op_type, node.domain)
        if operator and operator.copies_codes and node.input[0] in parameters and len(node.output) == 1:
            given = parameters[node.input[0]]
            parameters[node.output[0]] = given
            nodes += _lifted(node, given)
        else:
            nodes.append(node)
    if len(nodes) == len(model.graph.node):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    del result.graph.value_info[:]  # inferred again
    return result


def _lifted(node: onnx.NodeProto, parameters: Sequence[str]) -> list[onnx.NodeProto]:
    source, target = node.input[0], node.output[0]
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[0], copy.output[0] = f"{source}.{target}.real", f"{target}.real"
    return [
        helper.make_node("DequantizeLinear", [source, *parameters], [copy.input[0]], name=f"{target}.dq"),
        copy,
        helper.make_node("QuantizeLinear", [copy.output[0], *parameters], [target], name=f"{target}.q"),
    ]
