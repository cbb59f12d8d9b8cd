"""Layer normalization."""

from collections.abc import Sequence
from typing import Annotated

from axforge.axcompiler import numerics
from axforge.axcompiler.ir.fields import Constant
from axforge.axcompiler.ir.graph import Epilogue, Graph, Op, Tensor, operator
from axforge.axcompiler.ir.rules import Shape, float32, only, require, require_float32, require_multipliers
from axforge.axcompiler.numerics import MAX_NORMALIZED, Array


@operator
class LayerNorm(Op, frozen=True, kw_only=True, tag="layer_norm"):
    """Layer normalization of the last axis of D elements: t = (D * x - sum) / sqrt(V + epsilon) * multiplier + offset.

    V: D**2 times the variance of the codes. multiplier, offset: constants float32 [D], scale / s_y and bias / s_y of each element;
    epsilon: epsilon * D**2 / s_x**2, in the units of V, as a float32 value, at least 0.
    """

    multiplier: Annotated[str, Constant("float32", 1)]
    offset: Annotated[str, Constant("float32", 1)]
    epsilon: float
    epilogue: Epilogue

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """The operand's shape."""
        x = only(operands)
        require(len(x.shape) >= 1, "the operand must have an axis")
        require(x.shape[-1] <= MAX_NORMALIZED, f"the axis has more than {MAX_NORMALIZED} elements")
        require_float32(self.epsilon)
        require(self.epsilon >= 0, "epsilon is negative")
        require_multipliers(graph.constants, self.multiplier, x.shape[-1:])
        require_multipliers(graph.constants, self.offset, x.shape[-1:])
        return x.shape

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Normalize, scale, finish."""
        multiplier, offset = float32(graph.constants, self.multiplier), float32(graph.constants, self.offset)
        return self.epilogue.apply(graph, numerics.layer_norm_scaled(only(operands), multiplier, offset, self.epsilon))
