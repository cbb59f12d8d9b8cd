"""Operators that copy numbers get a Q and DQ on both sides where a tool wrote them on one side only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from onnx import NodeProto

from axforge.axcompiler.check.passes.base import RepeatedPass
from axforge.axcompiler.check.quantized import activation_parameters, insert_before, pair, parameters, same_parameters
from axforge.axcompiler.names import Names
from axforge.axcompiler.onnx_graph.net import Net, rename_reads
from axforge.axcompiler.operators import find
from axforge.axcompiler.operators.base import Scale


@dataclass(frozen=True)
class CompleteCopies(RepeatedPass):
    """Quantize both sides of an operator that only copies numbers, where one side is quantized.

    x ── Q ── DQ ── Reshape ── op      becomes      x ── Q ── DQ ── Reshape ── Q ── DQ ── op
    op ── MaxPool ── Q ── DQ           becomes      op ── Q ── DQ ── MaxPool ── Q ── DQ

    A copy of numbers that are codes times a scale is such numbers again, and rounding before a copy (or before the largest is taken) is
    rounding after it, so the results are the same. A Concat is a copy of each operand.
    """

    at: ClassVar[tuple[int, ...]] = (450,)
    keeps_shapes: ClassVar[bool] = False
    on_float: ClassVar[bool] = False
    on_quantized: ClassVar[bool] = True

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        makers, users = net.makers(), net.users()
        names = Names({*net.names(), *(node.name for node in net.nodes)})
        for node in net.nodes:
            if not _copies(net, node):
                continue
            known = [activation_parameters(net, makers.get(name), makers) for name in _operands(node)]
            given = known[0]
            if given is not None and all(k is not None and same_parameters(net, k, given) for k in known):
                if _after(net, node, given, users, names):
                    return [f"quantized the results of '{node.name}'"]
            elif _before(net, node, known, makers, users, names):
                return [f"quantized the operands of '{node.name}'"]
        return []


def _operands(node: NodeProto) -> Sequence[str]:
    operator = find(node.op_type, node.domain)
    return list(node.input) if operator is not None and operator.scale is Scale.JOIN else [node.input[0]]


def _copies(net: Net, node: NodeProto) -> bool:
    """Whether the node does to codes what it does to real numbers."""
    operator = find(node.op_type, node.domain)
    if operator is None or any(net.types.get(name) != 1 for name in (*_operands(node), *node.output)):
        return False
    if operator.scale is Scale.JOIN:
        return True
    copied = operator.copied_codes(node)
    if copied == (0, 2):  # Pad, with a number that must be a code too
        value = net.constant(node.input[2])
        return value is not None and not np.any(value)
    return copied == (0,)


def _after(net: Net, node: NodeProto, given: Sequence[str], users: dict[str, list[NodeProto]], names: Names) -> bool:
    """Quantize the results that something else than a QuantizeLinear reads."""
    changed = False
    for i, result in enumerate(node.output):
        readers = users.get(result, [])
        if not readers or result in net.output_names or all(reader.op_type == "QuantizeLinear" for reader in readers):
            continue
        real = names.fresh(f"{result}_copied")
        node.output[i] = real
        at = next(k for k, n in enumerate(net.nodes) if n is node) + 1
        net.nodes[at:at] = pair(real, result, given, names)
        for reader in readers:  # a QuantizeLinear with a scale of its own goes on reading what it read
            if reader.op_type == "QuantizeLinear":
                rename_reads(reader, result, real)
        changed = True
    return changed


def _before(
    net: Net,
    node: NodeProto,
    known: Sequence[tuple[str, ...] | None],
    makers: dict[str, NodeProto],
    users: dict[str, list[NodeProto]],
    names: Names,
) -> bool:
    """Quantize the operands that are float, as the result is quantized."""
    readers = users.get(node.output[0], [])
    if len(node.output) != 1 or node.output[0] in net.output_names or not readers:
        return False
    given = [parameters(net, r) if r.op_type == "QuantizeLinear" and not r.attribute else None for r in readers]
    first = given[0]
    if first is None or not all(g is not None and same_parameters(net, g, first) for g in given):
        return False
    changed = False
    for i, name in enumerate(_operands(node)):
        if name in net.constants or name in net.output_names or len(users[name]) != 1 or name not in node.input:
            continue
        if known[i] is None and not (name in makers and makers[name].op_type == "DequantizeLinear"):
            real = names.fresh(f"{name}_quantized")
            insert_before(net, node, pair(name, real, first, names))
            for k, other in enumerate(node.input):
                if other == name:
                    node.input[k] = real
            changed = True
    return changed
