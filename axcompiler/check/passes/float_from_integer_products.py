"""Integer products of activations that are quantized while the network runs become float products again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from axforge.axcompiler.check.passes.base import PreparingPass
from axforge.axcompiler.check.qoperators.base import MICROSOFT
from axforge.axcompiler.names import Names
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.onnx_graph.net import Net, attribute
from axforge.axcompiler.onnx_graph.qdq import along

F32 = NDArray[np.float32]
#: integer products and their float forms
_INTEGER = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}


@dataclass(frozen=True)
class FloatFromIntegerProducts(PreparingPass):
    """Undo dynamic quantization: compute with the float activation and the dequantized weight.

    x ── DynamicQuantizeLinear ── MatMulInteger (w) ── Cast ── Mul (s_x * s_w) ── y      becomes      x ── MatMul (s_w * (w - z_w)) ── y

    So it is for ConvInteger and for onnxruntime's DynamicQuantizeMatMul and MatMulIntegerToFloat. The scales of such a model are chosen
    for each picture, and the AIPU's are fixed: the weights are what the model knows, and calibration finds the rest.
    An integer product of an activation with a fixed scale becomes a float one between DequantizeLinear nodes.
    """

    at: ClassVar[tuple[int, ...]] = (260,)

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        work = _Undoing(net)
        return [f"undid the dynamic quantization of '{node.name}'" for node in list(net.nodes) if work.undo(node)]


@dataclass
class _Factors:
    """What a product is multiplied by: a constant, names of scales that a DynamicQuantizeLinear gives, names of anything else."""

    constant: Array = field(default_factory=lambda: np.ones((), np.float32))
    dynamic: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)


class _Undoing:
    """The model while its integer products are undone, one after another."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.makers, self.users = net.makers(), net.users()
        self.names = Names({*net.names(), *(node.name for node in net.nodes)})

    def undo(self, node: NodeProto) -> bool:
        """Replace one integer product, if it is one whose scales are understood."""
        if node.domain in ("", "ai.onnx") and node.op_type in _INTEGER:
            return self._integer(node)
        if node.domain == MICROSOFT and node.op_type == "DynamicQuantizeMatMul":
            return self._joined(node, node.input[0], [*node.input[1:4], "", "", ""][:3], node.input[4:5])
        if node.domain == MICROSOFT and node.op_type == "MatMulIntegerToFloat":
            quantizer = self._quantizer(node.input[0])
            if quantizer is not None and node.input[2] == quantizer.output[1]:
                weight = [node.input[1], node.input[3], *node.input[5:6], ""][:3]
                return self._joined(node, quantizer.input[0], weight, node.input[6:7])
        return False

    def _quantizer(self, codes: str) -> NodeProto | None:
        """The DynamicQuantizeLinear that makes `codes`."""
        maker = self.makers.get(codes)
        return maker if maker is not None and maker.op_type == "DynamicQuantizeLinear" and codes == maker.output[0] else None

    # ------------------------------------------------------------ MatMulInteger, ConvInteger

    def _integer(self, node: NodeProto) -> bool:
        chain, factors = self._chain(node)
        operands = [self._operand(name) for name in node.input[:2]]
        scales = sorted(scale for _, scale in operands if scale)
        if not chain or any(not real for real, _ in operands[:1]) or sorted(factors.dynamic) != scales:
            return self._static(node, chain, factors)
        weight = self._weight(node, factors) if not operands[1][0] else operands[1][0]
        if not weight:
            return False
        rest = [*factors.rest] if not operands[1][0] else [*factors.rest, self.net.add_constant(f"{node.name}_scale", factors.constant)]
        self._replace(node, [operands[0][0], weight], chain, rest)
        return True

    def _operand(self, codes: str) -> tuple[str, str]:
        """(float tensor, name of its scale) of an operand that is quantized while running; ('', '') of any other."""
        quantizer = self._quantizer(codes)
        return (quantizer.input[0], quantizer.output[1]) if quantizer is not None else ("", "")

    def _chain(self, node: NodeProto) -> tuple[list[NodeProto], _Factors]:
        """The Cast to float32 and the products after an integer product, and what they multiply by; [] if it goes on otherwise."""
        wanted = sum(1 for name in node.input[:2] if self._quantizer(name) is not None)
        cast = self._only_reader(node.output[0])
        if cast is None or cast.op_type != "Cast" or attribute(cast, "to") != TensorProto.FLOAT:
            return [], _Factors()
        chain, factors, at = [cast], _Factors(), cast.output[0]
        while len(factors.dynamic) < wanted or len(chain) == 1:
            product = self._only_reader(at)
            if product is None or product.op_type != "Mul":
                return [], factors
            self._factors(product.input[1] if product.input[0] == at else product.input[0], factors)
            chain.append(product)
            at = product.output[0]
        return chain, factors

    def _factors(self, name: str, into: _Factors) -> None:
        """Add what a product's factor `name` is made of, through products."""
        waiting = [name]
        while waiting:
            name = waiting.pop()
            value, maker = self.net.constant(name), self.makers.get(name)
            if value is not None and value.dtype == np.float32 and _broadcast(into.constant, value):
                into.constant = np.asarray(into.constant * value, np.float32)
            elif maker is not None and maker.op_type == "DynamicQuantizeLinear" and name == maker.output[1]:
                into.dynamic.append(name)
            elif maker is not None and maker.op_type == "Mul" and maker.domain in ("", "ai.onnx"):
                waiting += maker.input
            else:
                into.rest.append(name)

    def _only_reader(self, name: str) -> NodeProto | None:
        readers = self.users.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.net.output_names else None

    def _weight(self, node: NodeProto, factors: _Factors) -> str:
        """The dequantized constant operand, a new constant; '' if it is not constant. A factor that fits no channel is left in `rest`."""
        codes, zero = self.net.constant(node.input[1]), self._zero(node)
        if codes is None or zero is None:
            return ""
        axis = 0 if node.op_type == "ConvInteger" else codes.ndim - 1
        scale = _per_channel(factors.constant, codes.shape, axis, node.op_type)
        if scale is None:
            factors.rest.append(self.net.add_constant(f"{node.name}_scale", factors.constant))
            scale = np.ones(1, np.float32)
        return self._dequantized(node, codes, scale, zero, axis)

    def _zero(self, node: NodeProto) -> Array | None:
        """The zero point of the weight; 0 where there is none; None if it is not constant."""
        return self.net.constant(node.input[3]) if len(node.input) > 3 and node.input[3] else np.zeros(1, np.int8)

    def _dequantized(self, node: NodeProto, codes: Array, scale: Array, zero: Array, axis: int) -> str:
        real = (codes.astype(np.int32) - along(zero.astype(np.int32), codes.ndim, axis)).astype(np.float32)
        return self.net.add_constant(f"{node.name}_weight", real * along(scale, codes.ndim, axis))

    def _static(self, node: NodeProto, chain: list[NodeProto], factors: _Factors) -> bool:
        """A product of codes with a fixed scale: DequantizeLinear of both operands, the weight with what is left of the factor."""
        maker = self.makers.get(node.input[0])
        codes, zero = self.net.constant(node.input[1]), self._zero(node)
        if (
            maker is None
            or maker.op_type != "QuantizeLinear"
            or not chain
            or factors.dynamic
            or factors.rest
            or codes is None
            or zero is None
        ):
            return False
        x_scale, x_zero = self.net.constant(maker.input[1]), list(maker.input[2:3])
        if x_scale is None or x_scale.size != 1 or x_scale.dtype != np.float32 or not self._same_zero(node, x_zero):
            return False
        axis = 0 if node.op_type == "ConvInteger" else codes.ndim - 1
        scale = _per_channel(factors.constant, codes.shape, axis, node.op_type)
        if scale is None or zero.size not in (1, codes.shape[axis]):
            return False
        x = self._dequantize(node.input[0], maker.input[1:], {}, "x")
        full = np.broadcast_to(scale / x_scale.reshape(()), (codes.shape[axis],)).astype(np.float32)
        zeros = np.broadcast_to(zero.reshape(-1), (codes.shape[axis],)).astype(codes.dtype)
        parameters = [self.net.add_constant(f"{node.name}_w_scale", full), self.net.add_constant(f"{node.name}_w_zero", zeros)]
        w = self._dequantize(node.input[1], parameters, {"axis": axis}, "w")
        self._replace(node, [x.output[0], w.output[0]], chain, [], before=[x, w])
        return True

    def _same_zero(self, node: NodeProto, given: Sequence[str]) -> bool:
        """Whether the product takes the operand's zero point to be what QuantizeLinear used."""
        pair = [self.net.constant(name) if name else np.zeros(1) for name in (*given, "")[:1]]
        pair.append(self.net.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1))
        first, second = pair
        return first is not None and second is not None and first.size == second.size == 1 and bool(first.reshape(()) == second.reshape(()))

    def _dequantize(self, codes: str, parameters: Sequence[str], attributes: dict[str, Any], hint: str) -> NodeProto:
        real = self.names.fresh(f"{codes}_real_{hint}")
        return helper.make_node(
            "DequantizeLinear", [codes, *parameters], [real], self.names.fresh(f"DequantizeLinear_{real}"), **attributes
        )

    # ------------------------------------------------------------ onnxruntime's joined operators

    def _joined(self, node: NodeProto, x: str, weight: Sequence[str], bias: Sequence[str]) -> bool:
        """weight: names of codes, scale and zero point ('' for none)."""
        codes, scale = self.net.constant(weight[0]), self.net.constant(weight[1])
        zero = self.net.constant(weight[2]) if weight[2] else np.zeros(1, np.int8)
        if codes is None or scale is None or zero is None or scale.size not in (1, codes.shape[-1]):
            return False
        w = self._dequantized(node, codes, scale, zero, codes.ndim - 1)
        self._replace(node, [x, w], [], [], bias=[name for name in bias if name])
        return True

    def _replace(
        self,
        node: NodeProto,
        operands: Sequence[str],
        chain: Sequence[NodeProto],
        rest: Sequence[str],
        *,
        before: Sequence[NodeProto] = (),
        bias: Sequence[str] = (),
    ) -> None:
        """Put the float product, times `rest`, plus `bias`, where the last node of the chain is."""
        last = chain[-1] if chain else node
        product = helper.make_node(_INTEGER.get(node.op_type, "MatMul"), list(operands), list(last.output[:1]), node.name)
        product.attribute.extend(node.attribute if node.op_type == "ConvInteger" else [])
        made = [*before, product]
        for op_type, name in [*(("Mul", name) for name in rest), *(("Add", name) for name in bias)]:
            inner = self.names.fresh(f"{last.output[0]}_product")
            made[-1].output[0] = inner
            made.append(helper.make_node(op_type, [inner, name], list(last.output[:1]), self.names.fresh(f"{op_type}_{inner}")))
        at = next(i for i, n in enumerate(self.net.nodes) if n is last)
        self.net.nodes[at:at] = made
        gone = [node, *chain]
        self.net.remove([n for n in gone if n is not node], f"merged into '{node.name}', whose dynamic quantization was undone")
        self.net.nodes = [n for n in self.net.nodes if n is not node]
        self.makers, self.users = self.net.makers(), self.net.users()


def _broadcast(a: Array, b: Array) -> bool:
    """Whether two shapes broadcast."""
    return all(m == n or 1 in (m, n) for m, n in zip(a.shape[::-1], b.shape[::-1], strict=False))


def _per_channel(factor: Array, weight: tuple[int, ...], axis: int, op_type: str) -> Array | None:
    """The factor of a result as one number, or one for each output channel of the weight; None if it varies along another axis."""
    if factor.size == 1:
        return factor.reshape(1)
    channels, result_axis = weight[axis], 1 if op_type == "ConvInteger" else len(weight) - 1
    full = (1,) * (len(weight) - factor.ndim) + factor.shape
    return factor.reshape(-1) if len(full) == len(weight) and factor.size == channels == full[result_axis] else None
