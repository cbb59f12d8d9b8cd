"""Sums and maxima over axes."""

import math
from collections.abc import Sequence

import numpy as np

from axforge.axcompiler import numerics
from axforge.axcompiler.ir.graph import Epilogue, Graph, Op, Tensor, operator
from axforge.axcompiler.ir.rules import Shape, only, require, require_float32
from axforge.axcompiler.numerics import Array


def _reduced(axes: tuple[int, ...], keepdims: bool, shape: Shape) -> Shape:
    require(len(set(axes)) == len(axes) and all(0 <= a < len(shape) for a in axes), f"axes {axes} do not fit shape {shape}")
    return tuple(1 if i in axes else d for i, d in enumerate(shape) if keepdims or i not in axes)


@operator
class ReduceSum(Op, frozen=True, kw_only=True, tag="reduce_sum"):
    """int32 sum of (x - z_x) over `axes` (kept as size 1 if `keepdims`), times multiplier. A mean is another multiplier."""

    axes: tuple[int, ...]
    keepdims: bool
    multiplier: float
    epilogue: Epilogue

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """The operand's shape without `axes`, or with size 1 there."""
        x = only(operands)
        require_float32(self.multiplier)
        shape = _reduced(self.axes, self.keepdims, x.shape)
        require(math.prod(x.shape[a] for a in self.axes) < 2**23, "too many elements to sum in 32 bits")
        return shape

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Sum, scale, finish."""
        t = numerics.reduce_sum_scaled(only(operands), self.zero_point(graph), self.axes, self.keepdims, self.multiplier)
        return self.epilogue.apply(graph, t)


@operator
class ReduceMax(Op, frozen=True, kw_only=True, tag="reduce_max"):
    """Largest code over `axes`. Same quant in and out. (A minimum is islanded.)"""

    axes: tuple[int, ...]
    keepdims: bool

    keeps_quant = True

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """The operand's shape without `axes`, or with size 1 there."""
        x = only(operands).shape
        shape = _reduced(self.axes, self.keepdims, x)
        require(all(x[a] for a in self.axes), "takes the largest of no elements")
        return shape

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """The largest code."""
        return np.asarray(only(operands).max(axis=self.axes, keepdims=self.keepdims))
