"""Normalization and arithmetic with constants move into the scales and the bias of a quantized layer."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from onnx import NodeProto

from axforge.axcompiler.check.passes.base import F64, RepeatedPass
from axforge.axcompiler.check.passes.fold_affine import LAYERS, affine
from axforge.axcompiler.check.quantized import QuantizedConstant, add_quantized, insert_before, quantized_constant
from axforge.axcompiler.names import Names
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.onnx_graph.net import Net, attribute
from axforge.axcompiler.onnx_graph.qdq import along


@dataclass(frozen=True)
class FoldAffineQuantized(RepeatedPass):
    """Move an affine map of each channel into the quantized layer before it: its factors into the scales of the weight.

    Conv (codes, s) ── BatchNormalization | Mul | Add (constant) ── Q      becomes      Conv (codes, s * factor; other bias) ── Q

    The codes stay what the training or the tool made of them; where a factor is negative they change their sign. Only between a layer and
    the QuantizeLinear after it: what is quantized in between was meant to be.
    """

    at: ClassVar[tuple[int, ...]] = (410,)
    on_float: ClassVar[bool] = False
    on_quantized: ClassVar[bool] = True

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        makers, users = net.makers(), net.users()
        names = Names({*net.names(), *(node.name for node in net.nodes)})
        for node in net.nodes:
            pair = affine(net, node, makers)
            layer = makers.get(pair[0]) if pair is not None else None
            if pair is None or layer is None or layer.op_type not in LAYERS or pair[0] in net.output_names or len(users[pair[0]]) != 1:
                continue
            weight = quantized_constant(net, makers.get(layer.input[1]))
            if weight is not None and _fold(net, layer, weight, pair[1], pair[2], makers, names):
                layer.output[0] = node.output[0]
                net.remove([node], f"merged into the scales and the bias of '{layer.name}'")
                return [f"merged '{node.name}' into '{layer.name}'"]
        return []


def _fold(
    net: Net, layer: NodeProto, weight: QuantizedConstant, scale: F64, shift: F64, makers: dict[str, NodeProto], names: Names
) -> bool:
    axis, channels = _channels(layer, weight)
    bias = _bias(net, layer, makers)
    if bias is None or scale.size not in (1, channels) or shift.size not in (1, channels) or bias.size not in (1, channels):
        return False
    if layer.op_type == "Gemm" and (attribute(layer, "alpha", 1.0) != 1.0 or attribute(layer, "beta", 1.0) != 1.0):
        return False
    if bool((scale != 1).any()):
        scaled = _scaled(weight, axis, scale, channels)
        if scaled is None or (layer.op_type == "ConvTranspose" and attribute(layer, "group", 1) != 1):
            return False
        whole = add_quantized(net, scaled, f"{layer.name}_weight", names)
        insert_before(net, layer, [whole])
        layer.input[1] = whole.output[0]
    total = np.broadcast_to(bias * scale + shift, (channels,)).astype(np.float32)
    inputs = [*layer.input[:2], net.add_constant(f"{layer.name}_bias", total)]
    del layer.input[:]
    layer.input.extend(inputs)
    return True


def _channels(layer: NodeProto, weight: QuantizedConstant) -> tuple[int, int]:
    """The axis of the weight that holds output channels, and how many there are."""
    if layer.op_type == "Gemm":
        axis = 0 if attribute(layer, "transB", 0) else 1
    else:
        axis = 0 if layer.op_type == "Conv" else 1
    groups = attribute(layer, "group", 1) if layer.op_type == "ConvTranspose" else 1
    return axis, weight.codes.shape[axis] * groups


def _bias(net: Net, layer: NodeProto, makers: dict[str, NodeProto]) -> F64 | None:
    """The bias in real numbers; None if it is not constant."""
    if len(layer.input) < 3 or not layer.input[2]:
        return np.zeros(1)
    value = net.constant(layer.input[2])
    if value is not None:
        return value.astype(np.float64).reshape(-1)
    maker = makers.get(layer.input[2])
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    codes, scale = net.constant(maker.input[0]), net.constant(maker.input[1])
    zero = net.constant(maker.input[2]) if len(maker.input) > 2 and maker.input[2] else np.zeros(1, np.int32)
    if codes is None or scale is None or zero is None or codes.ndim != 1:
        return None
    return np.asarray((codes.astype(np.float64) - zero.reshape(-1)) * scale.astype(np.float64).reshape(-1))


def _scaled(weight: QuantizedConstant, axis: int, factor: F64, channels: int) -> QuantizedConstant | None:
    """The weight times a factor for each output channel; None where its scales lie along another axis, or a code has no opposite."""
    if weight.scale.size > 1 and weight.axis != axis:
        return None
    full = np.broadcast_to(factor, (channels,))
    scale = np.broadcast_to(weight.scale.astype(np.float64), (channels,)) * np.abs(full)
    sign: Array = along(np.sign(full).astype(np.int32), weight.codes.ndim, axis)
    codes = weight.centred * sign
    usable = np.where(scale > 0, scale, 1.0).astype(np.float32)
    if (full > 0).all():  # whatever the zero point is, it stays
        zero = np.broadcast_to(weight.zero, (channels,)).astype(weight.codes.dtype)
        return QuantizedConstant(weight.codes, usable, zero, axis)
    if codes.size and (codes.min() < -128 or codes.max() > 127):
        return None
    return QuantizedConstant(codes.astype(np.int8), usable, np.zeros(1, np.int8), axis)
