"""Softmax."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from axforge.axcompiler import numerics
from axforge.axcompiler.ir.fields import Constant
from axforge.axcompiler.ir.graph import Epilogue, Graph, Op, Tensor, operator
from axforge.axcompiler.ir.rules import Shape, int32, only, require, require_float32, require_shape
from axforge.axcompiler.numerics import SOFTMAX_BITS, Array


@operator
class Softmax(Op, frozen=True, kw_only=True, tag="softmax"):
    """Softmax along `axis`: e = exponent[max(x) - x] (int32), t = float32(e) / float32(sum e) * multiplier.

    exponent: constant int32 [256], round(exp(-d * s_x) * 2**15) for d = 0..255; multiplier: 1 / s_y.
    """

    axis: int
    exponent: Annotated[str, Constant("int32", 1)]
    multiplier: float
    epilogue: Epilogue

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """The operand's shape."""
        x = only(operands)
        require(0 <= self.axis < len(x.shape), f"has no axis {self.axis}")
        require_float32(self.multiplier)
        require_shape(graph.constants, self.exponent, (256,))
        e = int32(graph.constants, self.exponent)
        falls = int(e[0]) == 1 << SOFTMAX_BITS and bool((e >= 0).all() and (np.diff(e) <= 0).all())
        require(falls, "the exponentials must fall from 2**15")
        require(x.shape[self.axis] < 1 << (31 - SOFTMAX_BITS), "the axis is too long to sum in 32 bits")
        return x.shape

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Look up exponentials, divide by their sum, scale, finish."""
        t = numerics.softmax_scaled(only(operands), self.axis, int32(graph.constants, self.exponent), self.multiplier)
        return self.epilogue.apply(graph, t)
