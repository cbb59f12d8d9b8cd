"""Sums and products of two activations, and functions of one."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from axforge.axcompiler import numerics
from axforge.axcompiler.ir.fields import Constant
from axforge.axcompiler.ir.graph import Epilogue, Graph, Op, Tensor, operator
from axforge.axcompiler.ir.rules import Shape, broadcast_shape, int8, only, require_float32, require_shape
from axforge.axcompiler.numerics import Array


@operator
class Add(Op, frozen=True, kw_only=True, tag="add"):
    """a + b, NumPy broadcasting. multipliers: float32 values (s_a / s_y, s_b / s_y); a subtraction negates the second."""

    multipliers: tuple[float, float]
    epilogue: Epilogue

    arity = 2

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """The broadcast shape."""
        for m in self.multipliers:
            require_float32(m)
        return broadcast_shape(*(t.shape for t in operands))

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Scale both, add, finish."""
        a, b = operands
        t = numerics.add_scaled(a, self.zero_point(graph), b, self.zero_point(graph, 1), self.multipliers)
        return self.epilogue.apply(graph, t)


@operator
class Mul(Op, frozen=True, kw_only=True, tag="mul"):
    """a * b, NumPy broadcasting. multiplier: float32 value, (s_a * s_b) / s_y."""

    multiplier: float
    epilogue: Epilogue

    arity = 2

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """The broadcast shape."""
        require_float32(self.multiplier)
        return broadcast_shape(*(t.shape for t in operands))

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Multiply, scale, finish."""
        a, b = operands
        t = numerics.mul_scaled(a, self.zero_point(graph), b, self.zero_point(graph, 1), self.multiplier)
        return self.epilogue.apply(graph, t)


@operator
class Table(Op, frozen=True, kw_only=True, tag="table"):
    """y = table[x + 128]; table: constant int8[256]. Any one-input function, and any change of scale."""

    table: Annotated[str, Constant("int8", 1)]

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """The operand's shape."""
        require_shape(graph.constants, self.table, (256,))
        return only(operands).shape

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Look up each code."""
        return numerics.lookup(only(operands), int8(graph.constants, self.table))

    def is_identity(self, graph: Graph) -> bool:
        """Each code is mapped to itself."""
        return np.array_equal(graph.constants[self.table], np.arange(-128, 128))
