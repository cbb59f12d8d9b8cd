"""The fused int8 graph: the types every stage after `quantize`, and every engine, shares.

A `Graph` is immutable. Shapes are logical and follow ONNX (images are N, C, H, W); how an engine lays a tensor
out in memory is its own business. Arithmetic is defined in `numerics.py`, which gives every operator below one function.

Constants (weights, tables, index lists) live in `Graph.constants`, named; operators refer to them by name, so that
a reader can map them from a file without copying. Islands are ONNX models, as bytes, in `Graph.islands`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.errors import CompileError

IR_VERSION = 1


class Quant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Per-tensor affine quantization: real = (code - zero_point) * scale. `scale` is a float32 value, > 0."""

    scale: float
    zero_point: int


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value that flows between operators.

    shape: every dimension > 0 (or 0 for an empty tensor); -1 only where an island makes a size that depends on data.
    dtype: NumPy name. "int8" with a `quant` is a quantized activation; every other dtype has no quant and may only
    be made or used by islands, or be an input or output of the graph. (An int8 tensor without quant is plain data.)
    """

    shape: tuple[int, ...]
    dtype: str = "int8"
    quant: Quant | None = None


class Epilogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What follows an accumulator: code = clamp(round_half_even(t) + zero_point, lo, hi), then `table` if there is one.

    zero_point: of the code before the table; the output tensor's own zero point when there is no table.
    lo, hi: ReLU and Clip are only other bounds. table: name of a constant int8[256], indexed by code + 128.
    """

    zero_point: int
    lo: int = -128
    hi: int = 127
    table: str | None = None


class Op(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", kw_only=True):
    """What all operators have. `origin` names the ONNX nodes an operator was made from."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    origin: tuple[str, ...] = ()


class Conv(Op, frozen=True, kw_only=True, tag="conv"):
    """2-D convolution, x [N, C, H, W] -> y [N, M, OH, OW]. `pads` is (top, left, bottom, right), filled with x's zero point.

    weight: int8 [M, C/groups, KH, KW]; bias: int32 [M]; multiplier: float32 [M], (s_x * s_w[m]) / s_preactivation.
    """

    weight: str
    bias: str
    multiplier: str
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    epilogue: Epilogue


class ConvTranspose(Op, frozen=True, kw_only=True, tag="conv_transpose"):
    """2-D transposed convolution. weight: int8 [C, M/groups, KH, KW] as in ONNX; the rest as in `Conv`.

    OH = (H - 1) * stride + (KH - 1) * dilation + 1 + output_padding - top - bottom, and so for OW.
    """

    weight: str
    bias: str
    multiplier: str
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    output_padding: tuple[int, int] = (0, 0)
    groups: int = 1
    epilogue: Epilogue


class FullyConnected(Op, frozen=True, kw_only=True, tag="fully_connected"):
    """x [..., K] times a constant weight: int8 [M, K] -> y [..., M]; bias int32 [M]; multiplier float32 [M]."""

    weight: str
    bias: str
    multiplier: str
    epilogue: Epilogue


class MatMul(Op, frozen=True, kw_only=True, tag="matmul"):
    """a [..., I, K] @ b [..., K, J] with NumPy broadcasting of the leading axes; both are activations.

    multiplier: float32 value, (s_a * s_b) / s_y.
    """

    multiplier: float
    epilogue: Epilogue


class Add(Op, frozen=True, kw_only=True, tag="add"):
    """a + b, NumPy broadcasting. multipliers: float32 values (s_a / s_y, s_b / s_y); a subtraction negates the second."""

    multipliers: tuple[float, float]
    epilogue: Epilogue


class Mul(Op, frozen=True, kw_only=True, tag="mul"):
    """a * b, NumPy broadcasting. multiplier: float32 value, (s_a * s_b) / s_y."""

    multiplier: float
    epilogue: Epilogue


class Table(Op, frozen=True, kw_only=True, tag="table"):
    """y = table[x + 128]; table: constant int8[256]. Any one-input function, and any change of scale."""

    table: str


class MaxPool(Op, frozen=True, kw_only=True, tag="max_pool"):
    """2-D max pooling of codes; padding never wins (it counts as -128). Same quant in and out."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)


class AveragePool(Op, frozen=True, kw_only=True, tag="average_pool"):
    """2-D average pooling: int32 sum of (x - z_x) over the window's real elements, times multiplier[n - 1].

    multiplier: constant float32 [KH * KW]; n is the number of elements the window has inside the image
    (the table holds KH*KW equal entries when padding is counted). Global average pooling is a window of H x W.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    multiplier: str
    epilogue: Epilogue


class ReduceSum(Op, frozen=True, kw_only=True, tag="reduce_sum"):
    """int32 sum of (x - z_x) over `axes` (kept as size 1 if `keepdims`), times multiplier. A mean is another multiplier."""

    axes: tuple[int, ...]
    keepdims: bool
    multiplier: float
    epilogue: Epilogue


class ReduceMax(Op, frozen=True, kw_only=True, tag="reduce_max"):
    """Largest code over `axes`. Same quant in and out. (A minimum is islanded.)"""

    axes: tuple[int, ...]
    keepdims: bool


class ResizeLinear(Op, frozen=True, kw_only=True, tag="resize_linear"):
    """Bilinear resize of the last two axes in fixed point, x [N, C, H, W] -> y [N, C, OH, OW].

    Per axis, constants int32 `index` [2, O] (lower and upper source position) and `weight` [2, O] (they sum to 1024):
    acc = sum over the four neighbours of wy * wx * (x - z_x), an exact int32; t = float32(acc) * multiplier,
    with multiplier = s_x / (s_y * 2**20).
    """

    index_h: str
    index_w: str
    weight_h: str
    weight_w: str
    multiplier: float
    epilogue: Epilogue


class Concat(Op, frozen=True, kw_only=True, tag="concat"):
    """Operands joined along `axis`. tables[i]: constant int8[256] that brings operand i to the common scale, or None."""

    axis: int
    tables: tuple[str | None, ...]


class Reshape(Op, frozen=True, kw_only=True, tag="reshape"):
    """The same codes in row-major order with the output's shape."""


class Transpose(Op, frozen=True, kw_only=True, tag="transpose"):
    """Output axis i is input axis perm[i]."""

    perm: tuple[int, ...]


class Slice(Op, frozen=True, kw_only=True, tag="slice"):
    """Every axis has a start (>= 0), a step (!= 0); the size is the output's."""

    starts: tuple[int, ...]
    steps: tuple[int, ...]


class Take(Op, frozen=True, kw_only=True, tag="take"):
    """Elements `index` (constant int32 [O], each in range) along `axis`: nearest resize, constant gather, edge padding."""

    axis: int
    index: str


class Pad(Op, frozen=True, kw_only=True, tag="pad"):
    """Constant padding; `before` and `after` per axis (>= 0), filled with the code `value`."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: int


class Broadcast(Op, frozen=True, kw_only=True, tag="broadcast"):
    """x repeated along axes of size 1 (and new leading ones) up to the output's shape."""


class Softmax(Op, frozen=True, kw_only=True, tag="softmax"):
    """Softmax along `axis`: e = exponent[max(x) - x] (int32), t = float32(e) / float32(sum e) * multiplier.

    exponent: constant int32 [256], round(exp(-d * s_x) * 2**15) for d = 0..255; multiplier: 1 / s_y.
    """

    axis: int
    exponent: str
    multiplier: float
    epilogue: Epilogue


class Island(Op, frozen=True, kw_only=True, tag="island"):
    """A float32 ONNX model run on the CPU by onnxruntime; `island` names it in `Graph.islands`.

    The model's inputs and outputs have the names of `inputs` and `outputs`, in that order. Quantized inputs are
    dequantized before it, quantized outputs are quantized after it; all else passes as it is.
    """

    island: str
    reason: str = ""


AnyOp = (
    Conv
    | ConvTranspose
    | FullyConnected
    | MatMul
    | Add
    | Mul
    | Table
    | MaxPool
    | AveragePool
    | ReduceSum
    | ReduceMax
    | ResizeLinear
    | Concat
    | Reshape
    | Transpose
    | Slice
    | Take
    | Pad
    | Broadcast
    | Softmax
    | Island
)


@dataclass(frozen=True)
class Graph:
    """A fused int8 graph. `ops` are in an order in which every operand is made before it is used.

    inputs, outputs: names of tensors, in the order and under the names of the ONNX model. A tensor whose name is also a
    key of `constants` is a constant operand (int8 with quant, of `add`, `mul`, `matmul`, `concat`).
    """

    name: str
    tensors: Mapping[str, Tensor]
    ops: tuple[AnyOp, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    islands: Mapping[str, bytes] = field(default_factory=dict)


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON half of a serialised graph; `constants` gives name -> (dtype, shape) in the order of the data."""

    ir_version: int
    name: str
    tensors: dict[str, Tensor]
    ops: tuple[AnyOp, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, tuple[str, tuple[int, ...]]]
    islands: dict[str, int]


def quant_of(graph: Graph, name: str) -> Quant:
    """The quantization of tensor `name`; a CompileError if it has none (a broken graph, see `spec.py`)."""
    quant = graph.tensors[name].quant
    if quant is None:
        raise CompileError(f"tensor '{name}' carries no scale and zero point", where=graph.name)
    return quant
