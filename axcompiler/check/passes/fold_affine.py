"""Normalization and arithmetic with constants move into the weights of the layer before."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from onnx import NodeProto

from axforge.axcompiler.check.passes.base import F64, RepeatedPass, batch_norm, float_constant, set_weights
from axforge.axcompiler.onnx_graph.net import Net, attribute


@dataclass(frozen=True)
class FoldAffine(RepeatedPass):
    """Move an affine map of each channel into the layer before it.

    layer ── BatchNormalization | Mul | Div | Add | Sub (by a constant per channel)      becomes      layer with other weight and bias

    A layer is Conv, ConvTranspose or Gemm with constant float32 weight and bias whose result nothing else reads.
    """

    at: ClassVar[tuple[int, ...]] = (400,)

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        makers, users = net.makers(), net.users()
        for node in net.nodes:
            pair = affine(net, node, makers)
            if pair is None:
                continue
            x, scale, shift = pair
            layer = makers.get(x)
            if layer is None or layer.op_type not in LAYERS or x in net.output_names or len(users[x]) != 1:
                continue
            if _scale_layer(net, layer, scale, shift):
                layer.output[0] = node.output[0]
                net.remove([node], f"merged into the weights of '{layer.name}'")
                return [f"merged '{node.name}' into '{layer.name}'"]
        return []


LAYERS = ("Conv", "ConvTranspose", "Gemm")


def affine(net: Net, node: NodeProto, makers: dict[str, NodeProto]) -> tuple[str, F64, F64] | None:
    """(operand, scale, shift), each a scalar or one number a channel, if the node is an affine map of the layer before it."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "BatchNormalization":
        bn = batch_norm(net, node)
        return (node.input[0], *bn) if bn is not None else None
    if node.op_type not in ("Mul", "Div", "Add", "Sub") or node.output[0] not in net.shapes:
        return None
    for i in (0, 1):
        constant = float_constant(net, node.input[i])
        x = node.input[1 - i]
        if constant is None or x not in makers or net.shapes.get(x) != net.shapes[node.output[0]]:
            continue
        per_channel = _per_channel(constant, net.shapes[x])
        if per_channel is None:
            continue
        return _arithmetic(node.op_type, x, i, per_channel)
    return None


def _arithmetic(op: str, x: str, constant_at: int, c: F64) -> tuple[str, F64, F64] | None:
    one, zero = np.ones(1), np.zeros(1)
    if op == "Mul":
        return x, c, zero
    if op == "Add":
        return x, one, c
    if op == "Sub":
        return (x, one, -c) if constant_at == 1 else (x, -one, c)
    if constant_at == 1 and bool((c != 0).all()):
        return x, 1 / c, zero
    return None


def _per_channel(c: F64, shape: tuple[int, ...]) -> F64 | None:
    """`c` as one number, or one for each channel (axis 1) of a value of that shape; None if it varies along another axis."""
    if c.size == 1:
        return c.reshape(1)
    full = (1,) * (len(shape) - c.ndim) + c.shape
    return c.reshape(-1) if len(full) == len(shape) >= 2 and full[1] == shape[1] == c.size else None


def _scale_layer(net: Net, layer: NodeProto, scale: F64, shift: F64) -> bool:
    weight = float_constant(net, layer.input[1])
    has_bias = len(layer.input) > 2 and bool(layer.input[2])
    bias = float_constant(net, layer.input[2]) if has_bias else np.zeros(1)
    if weight is None or bias is None:
        return False
    if layer.op_type == "Gemm":
        if attribute(layer, "alpha", 1.0) != 1.0 or attribute(layer, "beta", 1.0) != 1.0 or bias.size not in (1, bias.shape[-1]):
            return False
        axis = 0 if attribute(layer, "transB", 0) else 1
        m = weight.shape[axis]
        scaled = weight * np.broadcast_to(scale, (m,)).reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
    elif layer.op_type == "Conv":
        m = weight.shape[0]
        scaled = weight * np.broadcast_to(scale, (m,)).reshape(-1, *[1] * (weight.ndim - 1))
    else:
        groups = attribute(layer, "group", 1)
        m = weight.shape[1] * groups
        by_group = weight.reshape(groups, -1, *weight.shape[1:]) * np.broadcast_to(scale, (m,)).reshape(
            groups, 1, -1, *[1] * (weight.ndim - 2)
        )
        scaled = by_group.reshape(weight.shape)
    if scale.size not in (1, m) or shift.size not in (1, m):
        return False
    new_bias = np.broadcast_to(bias.reshape(-1) * scale + shift, (m,))
    set_weights(net, layer, scaled, new_bias)
    return True
