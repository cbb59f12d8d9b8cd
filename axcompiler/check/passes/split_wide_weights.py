"""Weights whose codes need nine bits become two or three weights of eight."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from axforge.axcompiler.check.passes.base import RepeatedPass
from axforge.axcompiler.check.quantized import (
    QuantizedConstant,
    activation_parameters,
    add_quantized,
    insert_before,
    pair,
    quantized_constant,
)
from axforge.axcompiler.names import Names
from axforge.axcompiler.onnx_graph.net import Net, attribute

I32 = NDArray[np.int32]
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class SplitWideWeights(RepeatedPass):
    """Give a layer with an asymmetric weight its operand twice, and the weight in two parts that int8 holds.

    x ── Conv (w - z_w, -200..55)      becomes      x ── Concat (x, x) ── Conv (a and b along the input channels, a + b = w - z_w)

    The products and their sum are the same integers. It costs as many multiply-adds again, on the AIPU.
    """

    at: ClassVar[tuple[int, ...]] = (460,)
    keeps_shapes: ClassVar[bool] = False
    on_float: ClassVar[bool] = False
    on_quantized: ClassVar[bool] = True

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        makers = net.makers()
        names = Names({*net.names(), *(node.name for node in net.nodes)})
        notes = []
        for node in list(net.nodes):
            if node.op_type not in _LAYERS or node.domain not in ("", "ai.onnx"):
                continue
            weight = quantized_constant(net, makers.get(node.input[1]))
            given = activation_parameters(net, makers.get(node.input[0]), makers)
            if weight is None or given is None or weight.codes.ndim < 2 or (node.op_type == "MatMul" and weight.codes.ndim > 2):
                continue
            centred = weight.centred
            if centred.size and (centred.min() < -128 or centred.max() > 127):
                parts = _parts(centred)
                _split(net, node, weight, parts, given, names)
                notes.append(f"split the weight of '{node.name}' into {len(parts)}")
        return notes


def _parts(centred: I32) -> list[I32]:
    """Summands that int8 holds."""
    parts, rest = [], centred
    while rest.any():
        parts.append(np.clip(rest, -128, 127).astype(np.int32))
        rest = rest - parts[-1]
    return parts


def _split(net: Net, node: NodeProto, weight: QuantizedConstant, parts: Sequence[I32], given: Sequence[str], names: Names) -> None:
    axis, summed, groups = _axes(node)
    repeated = names.fresh(f"{node.name}_repeated")
    if groups == 1:
        joined = [node.input[0]] * len(parts)
        copy = helper.make_node("Concat", joined, [repeated], names.fresh(f"Concat_{repeated}"), axis=axis)
    else:
        inside = weight.codes.shape[0] // groups if node.op_type == "ConvTranspose" else weight.codes.shape[1]
        blocks = np.arange(groups * inside, dtype=np.int64).reshape(groups, 1, inside)
        index = net.add_constant(f"{node.name}_index", np.repeat(blocks, len(parts), axis=1).reshape(-1))
        copy = helper.make_node("Gather", [node.input[0], index], [repeated], names.fresh(f"Gather_{repeated}"), axis=axis)
    made = pair(repeated, names.fresh(f"{repeated}_real"), given, names)
    by_group = [part.reshape(groups, -1, *part.shape[1:]) if summed == 0 else part for part in parts]
    codes = np.concatenate(by_group, axis=summed + (summed == 0)).astype(np.int8)
    codes = codes.reshape(-1, *weight.codes.shape[1:]) if summed == 0 else codes
    whole = add_quantized(net, QuantizedConstant(codes, weight.scale, np.zeros(1, np.int8), weight.axis), f"{node.name}_weight", names)
    insert_before(net, node, [copy, *made, whole])
    node.input[0], node.input[1] = made[-1].output[0], whole.output[0]


def _axes(node: NodeProto) -> tuple[int, int, int]:
    """Axis of the operand whose elements are summed, that axis of the weight, groups."""
    if node.op_type == "Gemm":
        return (0 if attribute(node, "transA", 0) else 1), (1 if attribute(node, "transB", 0) else 0), 1
    if node.op_type == "MatMul":
        return -1, 0, 1
    return 1, 1 if node.op_type == "Conv" else 0, int(attribute(node, "group", 1))
