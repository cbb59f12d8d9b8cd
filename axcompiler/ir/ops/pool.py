"""Pooling over windows of an image."""

from collections.abc import Sequence
from typing import Annotated

from axforge.axcompiler import numerics
from axforge.axcompiler.ir.fields import Constant
from axforge.axcompiler.ir.graph import Epilogue, Graph, Op, Tensor, operator
from axforge.axcompiler.ir.rules import Shape, float32, only, require, require_multipliers, require_positive, window_shape
from axforge.axcompiler.numerics import Array


@operator
class MaxPool(Op, frozen=True, kw_only=True, tag="max_pool"):
    """2-D max pooling of codes; padding never wins (it counts as -128). Same quant in and out."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    keeps_quant = True

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """[N, C, OH, OW]."""
        x = only(operands)
        return (*x.shape[:2], *window_shape(x.shape, self.kernel, self.strides, self.dilations, self.pads))

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """The largest code of each window."""
        return numerics.max_pool(only(operands), self.kernel, self.strides, self.dilations, self.pads)


@operator
class AveragePool(Op, frozen=True, kw_only=True, tag="average_pool"):
    """2-D average pooling: int32 sum of (x - z_x) over the window's real elements, times multiplier[n - 1].

    multiplier: constant float32 [KH * KW]; n is the number of elements the window has inside the image
    (the table holds KH*KW equal entries when padding is counted). Global average pooling is a window of H x W.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    multiplier: Annotated[str, Constant("float32", 1)]
    epilogue: Epilogue

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """[N, C, OH, OW]."""
        x = only(operands)
        require_positive(self.kernel)
        require_multipliers(graph.constants, self.multiplier, (self.kernel[0] * self.kernel[1],))
        require(self.kernel[0] * self.kernel[1] < 2**23, "the window is too large to sum in 32 bits")
        return (*x.shape[:2], *window_shape(x.shape, self.kernel, self.strides, (1, 1), self.pads))

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Sum each window, scale by its size, finish."""
        multiplier = float32(graph.constants, self.multiplier)
        t = numerics.average_pool_scaled(only(operands), self.zero_point(graph), self.kernel, self.strides, self.pads, multiplier)
        return self.epilogue.apply(graph, t)
