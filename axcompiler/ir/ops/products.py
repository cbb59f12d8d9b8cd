"""Matrix products: with constant weights, and of two activations."""

import math
from collections.abc import Sequence
from typing import Annotated

from axforge.axcompiler import numerics
from axforge.axcompiler.ir.fields import Constant
from axforge.axcompiler.ir.graph import Epilogue, Graph, Op, Tensor, operator
from axforge.axcompiler.ir.rules import (
    Shape,
    broadcast_shape,
    float32,
    int8,
    int32,
    only,
    require,
    require_float32,
    require_multipliers,
    require_shape,
)
from axforge.axcompiler.numerics import MAX_REDUCTION, Array


@operator
class FullyConnected(Op, frozen=True, kw_only=True, tag="fully_connected"):
    """x [..., K] times a constant weight: int8 [M, K] -> y [..., M]; bias int32 [M]; multiplier float32 [M]."""

    weight: Annotated[str, Constant("int8", 2)]
    bias: Annotated[str, Constant("int32", 1)]
    multiplier: Annotated[str, Constant("float32", 1)]
    epilogue: Epilogue

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """[..., M]."""
        x = only(operands)
        m, k = graph.constants[self.weight].shape
        require_shape(graph.constants, self.bias, (m,))
        require_multipliers(graph.constants, self.multiplier, (m,))
        require(len(x.shape) >= 1, "the operand must have an axis")
        require(x.shape[-1] == k and 1 <= k <= MAX_REDUCTION, f"the operand's last axis is {x.shape[-1]}, the weight's {k}")
        return (*x.shape[:-1], m)

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Accumulate, scale by channel, finish."""
        c = graph.constants
        acc = numerics.fully_connected_accumulate(only(operands), self.zero_point(graph), int8(c, self.weight), int32(c, self.bias))
        return self.epilogue.apply(graph, numerics.scale_channels(acc, float32(c, self.multiplier), acc.ndim - 1))

    def multiply_adds(self, graph: Graph) -> int:
        """K for each element of the result."""
        return math.prod(self.output_shape(graph)) * graph.constants[self.weight].shape[1]


@operator
class MatMul(Op, frozen=True, kw_only=True, tag="matmul"):
    """a [..., I, K] @ b [..., K, J] with NumPy broadcasting of the leading axes; both are activations.

    multiplier: float32 value, (s_a * s_b) / s_y.
    """

    multiplier: float
    epilogue: Epilogue

    arity = 2

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """[..., I, J]."""
        a, b = (t.shape for t in operands)
        require(len(a) >= 2 and len(b) >= 2 and a[-1] == b[-2], f"shapes {a} and {b} do not multiply")
        require(1 <= a[-1] <= MAX_REDUCTION // 2, f"sums {a[-1]} products, 1 to {MAX_REDUCTION // 2} fit 32 bits")
        require_float32(self.multiplier)
        return (*broadcast_shape(a[:-2], b[:-2]), a[-2], b[-1])

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Accumulate, scale, finish."""
        a, b = operands
        t = numerics.matmul_scaled(a, self.zero_point(graph), b, self.zero_point(graph, 1), self.multiplier)
        return self.epilogue.apply(graph, t)

    def multiply_adds(self, graph: Graph) -> int:
        """K for each element of the result."""
        return math.prod(self.output_shape(graph)) * self.operand_shape(graph)[-1]
