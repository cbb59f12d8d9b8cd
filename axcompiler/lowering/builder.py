"""Collects the fused graph while operators are lowered: tensors, operators, constants (kept once by content)."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Epilogue, Quant, Tensor
from axforge.axcompiler.lowering import tables
from axforge.axcompiler.names import fresh
from axforge.axcompiler.numerics import Array, quantize
from axforge.axcompiler.onnx_graph.qdq import Code, ConstantCodes, Qdq
from axforge.axcompiler.onnx_graph.views import NodeView

INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Weight:
    """codes: int8, in the ONNX layout. scales: float32, one an output channel. terms: how many products one result sums, at most."""

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    terms: int


@dataclass
class PendingResult:
    """Where an operator writes; `close` brings it into the shape of the ONNX result."""

    lowering: "GraphBuilder"
    name: str
    final: str

    def close(self) -> None:
        """Emit the reshape, if the operator works in another shape than the ONNX node."""
        if self.name != self.final:
            self.lowering.copy(ir.Reshape, self.name, self.final)


@dataclass
class GraphBuilder:
    """The graph under construction.

    names: fused tensor of each code, by (real tensor, quant). opsets: of the model, for functions.
    Before a node is lowered `begin` says where its results go, and which Relu or Clip follows it.
    """

    qdq: Qdq
    names: Mapping[tuple[str, Quant], str]
    opsets: list[Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[ir.Op] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    _contents: dict[str, str] = field(default_factory=dict)
    _op_names: set[str] = field(default_factory=set)
    _targets: Mapping[str, str] = field(default_factory=dict)
    _bounds: tuple[float, float] = (-math.inf, math.inf)
    _origin: tuple[str, ...] = ()

    # ------------------------------------------------------------ one node at a time

    def begin(self, origin: tuple[str, ...], targets: Mapping[str, str], bounds: tuple[float, float] = (-math.inf, math.inf)) -> None:
        """origin: names of the ONNX nodes. targets: fused tensor for each result. bounds: real numbers to clip to."""
        self._origin, self._targets, self._bounds = origin, targets, bounds

    def name_of(self, code: Code) -> str:
        """Fused tensor of a code."""
        return self.names[code.real, code.quant]

    def operand(self, view: NodeView, i: int, quant: Quant | None = None) -> str:
        """Fused tensor of activation input i; a constant becomes a constant operand (in `quant`, if one is given)."""
        name = view.inputs[i]
        if name in self.qdq.dequantized:
            return self.name_of(self.qdq.dequantized[name])
        stored = self.qdq.constants.get(name)
        if quant is None and stored is not None and stored.bits == 8 and stored.scales.size == 1 and stored.scales[0] > 0:
            return self._stored_operand(stored)
        return self.constant_operand(np.asarray(self.qdq.view.constants[name]), "operand", quant)

    def result(self, view: NodeView, i: int = 0) -> str:
        """Fused tensor of output i."""
        return self._targets[view.outputs[i]]

    def wanted(self, view: NodeView, i: int) -> bool:
        """Whether output i is to be made now."""
        return view.outputs[i] in self._targets

    def reshaped_result(self, view: NodeView, shape: tuple[int, ...]) -> PendingResult:
        """Output 0 for an operator that works in another shape; close it afterwards."""
        final = self.result(view)
        same = self.shape(final) == shape
        return PendingResult(self, final if same else self.temporary(shape, self.quant(final), final), final)

    # ------------------------------------------------------------ tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a fused tensor."""
        return self.tensors[name].shape

    def quant(self, name: str) -> Quant:
        """Quantization of a fused tensor."""
        quant = self.tensors[name].quant
        assert quant is not None, name
        return quant

    def temporary(self, shape: tuple[int, ...], quant: Quant, hint: str) -> str:
        """A new tensor."""
        name = fresh(f"{hint}.t", self.tensors, separator="")
        self.tensors[name] = Tensor(tuple(shape), "int8", quant)
        return name

    def constant(self, value: Array, hint: str) -> str:
        """Name of a constant with this content."""
        value = np.ascontiguousarray(value)
        key = hashlib.sha256(f"{value.dtype.name}{value.shape}".encode() + value.tobytes()).hexdigest()
        if key not in self._contents:
            name = fresh(f"{hint}.{len(self.constants)}", self.tensors.keys() | self.constants.keys())
            self.constants[name] = value
            self._contents[key] = name
        return self._contents[key]

    def constant_operand(self, value: Array, hint: str, quant: Quant | None = None) -> str:
        """A constant as an int8 operand. Without `quant` its own range, zero included, decides; one number is exact."""
        value = np.asarray(value, np.float32)
        quant = quant or range_quant(value)
        codes = quantize(value, quant.scale, quant.zero_point)
        name = fresh(f"{hint}.c{len(self.constants)}", self.tensors.keys() | self.constants.keys(), separator="")
        self.constants[name] = codes
        self.tensors[name] = Tensor(codes.shape, "int8", quant)
        return name

    def _stored_operand(self, stored: ConstantCodes) -> str:
        """A quantized constant as an operand, with the codes and the scale that it has.

        Its codes are known without their zero point: the one nearest to 0 is taken with which they are int8.
        """
        lowest, highest = -128 - int(stored.codes.min(initial=0)), 127 - int(stored.codes.max(initial=0))
        zero = min(max(0, lowest), highest)
        name = fresh(f"operand.c{len(self.constants)}", self.tensors.keys() | self.constants.keys(), separator="")
        self.constants[name] = (stored.codes + zero).astype(np.int8)
        self.tensors[name] = Tensor(stored.codes.shape, "int8", Quant(float(stored.scales[0]), zero))
        return name

    def code(self, name: str, value: float) -> int:
        """Code of a real number in tensor `name`, the nearest there is."""
        quant = self.quant(name)
        return int(quantize(np.float32(value), quant.scale, quant.zero_point))

    # ------------------------------------------------------------ operators

    def emit(self, kind: Any, inputs: tuple[str, ...], output: str, **fields: Any) -> None:
        """Append an operator."""
        name = fresh(self._origin[0] if self._origin else output, self._op_names, separator="")
        self._op_names.add(name)
        self.ops.append(kind(name=name, inputs=inputs, outputs=(output,), origin=self._origin, **fields))

    def copy(self, kind: Any, source: str, target: str, **fields: Any) -> None:
        """Append an operator that copies codes; where the result has a scale of its own, a table follows."""
        if self.quant(source) == self.quant(target):
            self.emit(kind, (source,), target, **fields)
            return
        between = self.temporary(self.shape(target), self.quant(source), target)
        self.emit(kind, (source,), between, **fields)
        self.rescale(between, target)

    def rescale(self, source: str, target: str) -> None:
        """Append a table that brings `source` to the scale of `target`."""
        table = tables.rescale(self.quant(source), self.quant(target))
        self.emit(ir.Table, (source,), target, table=self.constant(table, "table"))

    def rescale_table(self, source: str, target: Quant) -> str | None:
        """Name of the table that brings `source` to `target`; None if it is already there."""
        quant = self.quant(source)
        return None if quant == target else self.constant(tables.rescale(quant, target), "table")

    def reshaped(self, source: str, shape: tuple[int, ...]) -> str:
        """The tensor in another shape."""
        if self.shape(source) == shape:
            return source
        target = self.temporary(shape, self.quant(source), source)
        self.emit(ir.Reshape, (source,), target)
        return target

    def transposed(self, source: str, perm: tuple[int, ...]) -> str:
        """The tensor with its axes permuted."""
        shape = self.shape(source)
        target = self.temporary(tuple(shape[p] for p in perm), self.quant(source), source)
        self.emit(ir.Transpose, (source,), target, perm=perm)
        return target

    def taken(self, source: str, axis: int, index: NDArray[np.int32]) -> str:
        """Elements `index` along an axis."""
        shape = list(self.shape(source))
        shape[axis] = len(index)
        target = self.temporary(tuple(shape), self.quant(source), source)
        self.emit(ir.Take, (source,), target, axis=axis, index=self.constant(index.astype(np.int32), "index"))
        return target

    def sliced(self, source: str, starts: tuple[int, ...], sizes: tuple[int, ...]) -> str:
        """A box of the tensor."""
        target = self.temporary(sizes, self.quant(source), source)
        self.emit(ir.Slice, (source,), target, starts=starts, steps=(1,) * len(starts))
        return target

    def padded(self, source: str, pads: tuple[int, int, int, int], value: int) -> str:
        """An image with a border (top, left, bottom, right) of the code `value`."""
        if not any(pads):
            return source
        top, left, bottom, right = pads
        n, ch, h, w = self.shape(source)
        target = self.temporary((n, ch, h + top + bottom, w + left + right), self.quant(source), source)
        self.emit(ir.Pad, (source,), target, before=(0, 0, top, left), after=(0, 0, bottom, right), value=value)
        return target

    def function(self, views: tuple[NodeView, ...], source: str, result: str) -> None:
        """Append the table of a one-input function, from ONNX tensor `source` to `result`."""
        x, y = self.name_of(self.qdq.dequantized[source]), self._targets[result]
        seen = self.qdq.view
        protos = [seen.protos[seen.makers[v.outputs[0]]] for v in views]
        table = tables.function(protos, source, result, seen.constants, self.opsets, (self.quant(x), self.quant(y)))
        self.emit(ir.Table, (x,), y, table=self.constant(table, "table"))

    # ------------------------------------------------------------ scales

    def weight(self, view: NodeView, i: int, axis: int) -> Weight:
        """Input i as int8 codes, with its output channels on `axis`. The plan has made sure that it is quantized so."""
        stored = self.qdq.constants[view.inputs[i]]
        channels = stored.codes.shape[stored.axis if stored.scales.size > 1 else axis]
        scales = np.broadcast_to(stored.scales, (channels,)).astype(np.float32)
        return Weight(stored.codes.astype(np.int8), scales, stored.codes.size // max(channels, 1))

    def accumulator(self, view: NodeView, x: str, y: str, scales: NDArray[np.float32], terms: int, beta: float = 1.0) -> dict[str, Any]:
        """Fields bias, multiplier and epilogue of a product with a constant weight; the bias is input 2.

        multiplier: float32 ((s_x * s_w) / s_y), in that order, as in ONNX QLinearConv.
        """
        product = np.float32(self.quant(x).scale) * scales
        multiplier = (product / np.float32(self.quant(y).scale)).astype(np.float32)
        bias = self._bias(view, product, terms, beta)
        return {
            "bias": self.constant(bias, "bias"),
            "multiplier": self.constant(multiplier, "multiplier"),
            "epilogue": self.epilogue(y),
        }

    def _bias(self, view: NodeView, product: NDArray[np.float32], terms: int, beta: float) -> NDArray[np.int32]:
        """Bias codes at scale s_x * s_w, kept so far inside 32 bits that no sum overflows."""
        if len(view.inputs) < 3 or not view.inputs[2]:
            return np.zeros(product.shape, np.int32)
        stored = self.qdq.constants.get(view.inputs[2])
        same = stored is not None and beta == 1.0 and bool(np.allclose(stored.scales, product, rtol=1e-6, atol=0))
        if stored is not None and same and stored.codes.size == product.size:
            codes = stored.codes.reshape(-1).astype(np.float64)
        else:
            real = np.broadcast_to(np.asarray(view.constant(2), np.float64).reshape(-1), product.shape) * beta
            codes = np.rint(real / product.astype(np.float64))
        limit = INT32_MAX - 255 * 128 * terms
        return np.clip(codes, -limit, limit).astype(np.int32)

    def ratio(self, x: str, y: str) -> float:
        """float32 (s_x / s_y)."""
        return float(np.float32(self.quant(x).scale) / np.float32(self.quant(y).scale))

    def product_scale(self, a: str, b: str, y: str) -> float:
        """float32 ((s_a * s_b) / s_y)."""
        return float(np.float32(self.quant(a).scale) * np.float32(self.quant(b).scale) / np.float32(self.quant(y).scale))

    def epilogue(self, y: str) -> Epilogue:
        """Zero point of the result, and the Relu or Clip that follows as bounds."""
        quant = self.quant(y)
        lo, hi = (quantize(np.float32(b), quant.scale, quant.zero_point) for b in self._bounds)
        return Epilogue(zero_point=quant.zero_point, lo=int(lo), hi=int(hi))


def range_quant(value: Array) -> Quant:
    """Scale and zero point whose codes reach from the smallest to the largest value, zero included."""
    lo, hi = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
    if not math.isfinite(lo) or not math.isfinite(hi):
        raise CompileError("a constant operand has entries that are not finite", fix="Name the node in quantize.exclude.")
    if lo == hi:
        return Quant(1.0, 0)
    if value.size == 1:
        return Quant(float(np.float32(max(abs(lo), abs(hi)) / 127)), 0)
    scale = float(np.float32((hi - lo) / 255)) or float(np.finfo(np.float32).tiny)
    return Quant(scale, int(np.clip(round(-128 - lo / scale), -128, 127)))
