"""Convolutions."""

import math
from collections.abc import Sequence
from typing import Annotated

from axforge.axcompiler import numerics
from axforge.axcompiler.ir.fields import Constant
from axforge.axcompiler.ir.graph import Epilogue, Graph, Op, Tensor, operator
from axforge.axcompiler.ir.rules import (
    Shape,
    float32,
    int8,
    int32,
    only,
    require,
    require_multipliers,
    require_positive,
    require_room,
    require_shape,
    window_shape,
)
from axforge.axcompiler.numerics import MAX_REDUCTION, Array


@operator
class Conv(Op, frozen=True, kw_only=True, tag="conv"):
    """2-D convolution, x [N, C, H, W] -> y [N, M, OH, OW]. `pads` is (top, left, bottom, right), filled with x's zero point.

    weight: int8 [M, C/groups, KH, KW]; bias: int32 [M]; multiplier: float32 [M], (s_x * s_w[m]) / s_preactivation.
    """

    weight: Annotated[str, Constant("int8", 4)]
    bias: Annotated[str, Constant("int32", 1)]
    multiplier: Annotated[str, Constant("float32", 1)]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    epilogue: Epilogue

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """[N, M, OH, OW]."""
        x = only(operands)
        m, cg, kh, kw = graph.constants[self.weight].shape
        require_shape(graph.constants, self.bias, (m,))
        require_multipliers(graph.constants, self.multiplier, (m,))
        oh, ow = window_shape(x.shape, (kh, kw), self.strides, self.dilations, self.pads)
        good = self.groups >= 1 and m % self.groups == 0 and x.shape[1] == cg * self.groups
        require(good, "channels do not match weight and groups")
        require(1 <= cg * kh * kw <= MAX_REDUCTION, f"sums {cg * kh * kw} products, 1 to {MAX_REDUCTION} fit 32 bits")
        return (x.shape[0], m, oh, ow)

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Accumulate, scale by channel, finish."""
        c = graph.constants
        weight, bias = int8(c, self.weight), int32(c, self.bias)
        zero = self.zero_point(graph)
        acc = numerics.conv_accumulate(only(operands), zero, weight, bias, self.strides, self.dilations, self.pads, self.groups)
        return self.epilogue.apply(graph, numerics.scale_channels(acc, float32(c, self.multiplier), 1))

    def multiply_adds(self, graph: Graph) -> int:
        """One filter for each element of the result."""
        return math.prod(self.output_shape(graph)) * math.prod(graph.constants[self.weight].shape[1:])


@operator
class ConvTranspose(Op, frozen=True, kw_only=True, tag="conv_transpose"):
    """2-D transposed convolution. weight: int8 [C, M/groups, KH, KW] as in ONNX; the rest as in `Conv`.

    OH = (H - 1) * stride + (KH - 1) * dilation + 1 + output_padding - top - bottom, and so for OW.
    """

    weight: Annotated[str, Constant("int8", 4)]
    bias: Annotated[str, Constant("int32", 1)]
    multiplier: Annotated[str, Constant("float32", 1)]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    output_padding: tuple[int, int] = (0, 0)
    groups: int = 1
    epilogue: Epilogue

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """[N, M, OH, OW]."""
        x = only(operands)
        require(len(x.shape) == 4, "the operand must have 4 axes (N, C, H, W)")
        c, mg, kh, kw = graph.constants[self.weight].shape
        require_positive((kh, kw), self.strides, self.dilations)
        require(self.groups >= 1 and c % self.groups == 0 and x.shape[1] == c, "channels do not match weight and groups")
        m = mg * self.groups
        require_shape(graph.constants, self.bias, (m,))
        require_multipliers(graph.constants, self.multiplier, (m,))
        require(all(p >= 0 for p in (*self.pads, *self.output_padding)), "padding is negative")
        require(1 <= c // self.groups * kh * kw <= MAX_REDUCTION, "sums no products, or too many to fit 32 bits")
        oh, ow = self._size(x.shape, m, (kh, kw))
        return (x.shape[0], m, oh, ow)

    def _size(self, shape: Shape, m: int, kernel: tuple[int, int]) -> tuple[int, int]:
        top, left, bottom, right = self.pads
        axes = zip(shape[2:], self.strides, kernel, self.dilations, self.output_padding, (top, left), (bottom, right), strict=True)
        oh, ow = ((size - 1) * s + (k - 1) * d + 1 + extra - before - after for size, s, k, d, extra, before, after in axes)
        require(min(oh, ow) >= 1, "the padding leaves nothing")
        require_room(shape[0], m, oh + top + bottom, ow + left + right)
        return oh, ow

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Spread and accumulate, scale by channel, finish."""
        c = graph.constants
        weight, bias, zero = int8(c, self.weight), int32(c, self.bias), self.zero_point(graph)
        acc = numerics.conv_transpose_accumulate(
            only(operands), zero, weight, bias, self.strides, self.dilations, self.pads, self.output_padding, self.groups
        )
        return self.epilogue.apply(graph, numerics.scale_channels(acc, float32(c, self.multiplier), 1))

    def multiply_adds(self, graph: Graph) -> int:
        """One filter for each element of the operand."""
        return math.prod(self.operand_shape(graph)) * math.prod(graph.constants[self.weight].shape[1:])
