"""What the passes on models that came quantized share: quantized constants, and where an activation was quantized."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from axforge.axcompiler.names import Names
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.onnx_graph.net import Net, attribute
from axforge.axcompiler.onnx_graph.qdq import along


@dataclass(frozen=True)
class QuantizedConstant:
    """codes: as stored. scale: float32 [1] or [channels of `axis`]. zero: of the element type of the codes, as long as the scale or 1."""

    codes: Array
    scale: NDArray[np.float32]
    zero: Array
    axis: int

    @property
    def centred(self) -> NDArray[np.int32]:
        """The codes minus their zero point."""
        return np.asarray(self.codes.astype(np.int32) - along(self.zero.astype(np.int32), self.codes.ndim, self.axis), np.int32)


def quantized_constant(net: Net, maker: NodeProto | None) -> QuantizedConstant | None:
    """The 8-bit constant that a DequantizeLinear reads; None for anything else."""
    if maker is None or maker.op_type != "DequantizeLinear" or attribute(maker, "block_size", 0):
        return None
    codes, scale = net.constant(maker.input[0]), net.constant(maker.input[1])
    if codes is None or scale is None or codes.dtype not in (np.int8, np.uint8) or scale.dtype != np.float32 or scale.ndim > 1:
        return None
    has_zero = len(maker.input) > 2 and bool(maker.input[2])
    zero = net.constant(maker.input[2]) if has_zero else np.zeros(1, codes.dtype)
    if zero is None or zero.size not in (1, scale.size):
        return None
    axis = int(attribute(maker, "axis", 1)) % max(codes.ndim, 1)
    return QuantizedConstant(codes, scale.reshape(-1), zero.reshape(-1), axis)


def add_quantized(net: Net, constant: QuantizedConstant, hint: str, names: Names) -> NodeProto:
    """A DequantizeLinear of a new constant."""
    single = constant.scale.size == 1
    zero = np.broadcast_to(constant.zero, constant.scale.shape).astype(constant.codes.dtype)
    given = [constant.codes, constant.scale.reshape(()) if single else constant.scale, zero.reshape(()) if single else zero]
    inputs = [
        net.add_constant(f"{hint}_{part}", np.ascontiguousarray(v)) for part, v in zip(("codes", "scale", "zero"), given, strict=True)
    ]
    result = names.fresh(f"{hint}_real")
    at: dict[str, Any] = {} if single else {"axis": constant.axis}
    return helper.make_node("DequantizeLinear", inputs, [result], names.fresh(f"DequantizeLinear_{result}"), **at)


def activation_parameters(net: Net, maker: NodeProto | None, makers: dict[str, NodeProto]) -> tuple[str, ...] | None:
    """Names of scale and zero point (if any) of an activation that a DequantizeLinear gives back, if they are one constant number each."""
    if maker is None or maker.op_type != "DequantizeLinear" or maker.input[0] in net.constants:
        return None
    quantizer = makers.get(maker.input[0])
    if quantizer is None or quantizer.op_type != "QuantizeLinear" or quantizer.attribute or maker.attribute:
        return None
    return parameters(net, quantizer)


def parameters(net: Net, node: NodeProto) -> tuple[str, ...] | None:
    """Names of scale and zero point of a QuantizeLinear or DequantizeLinear; None unless each is one constant number and 8 bits wide."""
    names = tuple(name for name in node.input[1:3] if name)
    values = [net.constant(name) for name in names]
    if any(v is None or v.size != 1 for v in values) or any(v is not None and v.dtype not in (np.int8, np.uint8) for v in values[1:]):
        return None
    return names


def same_parameters(net: Net, a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether two lists of names are of equal numbers."""
    if len(a) != len(b):
        return False
    pairs = [(net.constant(x), net.constant(y)) for x, y in zip(a, b, strict=True)]
    return all(x is not None and y is not None and x.dtype == y.dtype and x.reshape(()) == y.reshape(()) for x, y in pairs)


def pair(real: str, target: str, given: Sequence[str], names: Names) -> list[NodeProto]:
    """QuantizeLinear and DequantizeLinear from `real` to `target`."""
    codes = names.fresh(f"{target}_codes")
    return [
        helper.make_node("QuantizeLinear", [real, *given], [codes], names.fresh(f"QuantizeLinear_{codes}")),
        helper.make_node("DequantizeLinear", [codes, *given], [target], names.fresh(f"DequantizeLinear_{target}")),
    ]


def insert_before(net: Net, node: NodeProto, made: Sequence[NodeProto]) -> None:
    """Put nodes before `node`."""
    at = next(i for i, n in enumerate(net.nodes) if n is node)
    net.nodes[at:at] = made
