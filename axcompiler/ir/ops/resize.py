"""Bilinear resize. (A nearest resize is a `Take` on each axis.)"""

from collections.abc import Sequence
from typing import Annotated

from axforge.axcompiler import numerics
from axforge.axcompiler.ir.fields import Constant
from axforge.axcompiler.ir.graph import Epilogue, Graph, Op, Tensor, operator
from axforge.axcompiler.ir.rules import Constants, Shape, int32, only, require, require_float32, require_indices, require_shape
from axforge.axcompiler.numerics import RESIZE_BITS, Array


@operator
class ResizeLinear(Op, frozen=True, kw_only=True, tag="resize_linear"):
    """Bilinear resize of the last two axes in fixed point, x [N, C, H, W] -> y [N, C, OH, OW].

    Per axis, constants int32 `index` [2, O] (lower and upper source position) and `weight` [2, O] (they sum to 1024):
    acc = sum over the four neighbours of wy * wx * (x - z_x), an exact int32; t = float32(acc) * multiplier,
    with multiplier = s_x / (s_y * 2**20).
    """

    index_h: Annotated[str, Constant("int32", 2)]
    index_w: Annotated[str, Constant("int32", 2)]
    weight_h: Annotated[str, Constant("int32", 2)]
    weight_w: Annotated[str, Constant("int32", 2)]
    multiplier: float
    epilogue: Epilogue

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """[N, C, OH, OW]."""
        x = only(operands)
        require(len(x.shape) == 4, "the operand must have 4 axes (N, C, H, W)")
        require_float32(self.multiplier)
        oh = _axis_size(graph.constants, self.index_h, self.weight_h, x.shape[2])
        ow = _axis_size(graph.constants, self.index_w, self.weight_w, x.shape[3])
        return (*x.shape[:2], oh, ow)

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Weigh four neighbours, scale, finish."""
        index_h, index_w, weight_h, weight_w = (
            int32(graph.constants, n) for n in (self.index_h, self.index_w, self.weight_h, self.weight_w)
        )
        zero = self.zero_point(graph)
        t = numerics.resize_linear_scaled(only(operands), zero, index_h, index_w, weight_h, weight_w, self.multiplier)
        return self.epilogue.apply(graph, t)


def _axis_size(constants: Constants, index: str, weight: str, size: int) -> int:
    """Elements of the result along an axis whose operand has `size`; checks the constants of that axis."""
    out = constants[index].shape[1]
    require_shape(constants, index, (2, out))
    require_shape(constants, weight, (2, out))
    require_indices(constants, index, size)
    w = int32(constants, weight)
    good = bool((w >= 0).all() and (w.sum(axis=0) == 1 << RESIZE_BITS).all())
    require(good, f"weights '{weight}' do not sum to {1 << RESIZE_BITS}")
    return out
