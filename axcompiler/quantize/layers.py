"""The layers of a plan as integers: the codes of each weight, and the bias before it is rounded."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.ir import Quant
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators.base import Operator, Role
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.quantize import weights

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass
class QuantizedLayer:
    """One layer that multiplies by a constant weight.

    weight: the float weight, input `weight_input` of `node`. codes: int8, the same shape. scale: [channels of `axis`].
    product_scale: of the accumulator, one number a channel of the result. bias: in real numbers, one number a channel of the
    result; None if there is none.
    """

    node: NodeView
    operator: Operator
    weight_input: int
    weight: F32
    axis: int
    codes: NDArray[np.int8]
    scale: F32
    product_scale: F32
    bias: F32 | None

    @property
    def rounded(self) -> F64:
        """The weight that the codes stand for, in its own shape."""
        shape = [-1 if a == self.axis else 1 for a in range(self.weight.ndim)]
        return self.codes.astype(np.float64) * self.scale.astype(np.float64).reshape(shape)


def quantized_layers(plan: Plan, activations: Mapping[str, Quant]) -> dict[str, QuantizedLayer]:
    """All layers of the plan, by the tensor they make."""
    found = {}
    for k in sorted(plan.aipu):
        unit = plan.parts[k]
        node = plan.view.nodes[unit.nodes[0]]
        if unit.region is None and unit.operator is not None and Role.WEIGHT in unit.operator.roles(node):
            found[node.outputs[0]] = _layer(unit.operator, node, activations[node.inputs[0]].scale)
    return found


def _layer(operator: Operator, node: NodeView, x_scale: float) -> QuantizedLayer:
    at = operator.roles(node).index(Role.WEIGHT)
    weight = np.asarray(node.constant(at), np.float32)
    axis = operator.weight_axis(node)
    groups = operator.weight_groups(node)
    bias = _bias(node, weight.shape[axis] * groups)
    by_group = None if bias is None else np.abs(bias.reshape(groups, -1)).max(axis=0)
    scale = weights.channel_scales(weight, axis, by_group, x_scale)
    product = (np.float32(x_scale) * np.tile(scale, groups)).astype(np.float32)
    return QuantizedLayer(node, operator, at, weight, axis, weights.quantize_weight(weight, scale, axis), scale, product, bias)


def _bias(node: NodeView, channels: int) -> F32 | None:
    """The model's own bias, one number a channel."""
    has = len(node.inputs) > 2 and bool(node.inputs[2])
    return np.broadcast_to(np.asarray(node.constant(2), np.float32).reshape(-1), (channels,)) if has else None
