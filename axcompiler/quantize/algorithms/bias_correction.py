"""Bias correction: rounded weights shift the mean of each channel by a known amount, which the bias can take back.

E[(w_q - w) * x] = sum over the window of (w_q - w) * E[x]        (Nagel et al., 2019, section 4.2, with measured means)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.placement.plan import Plan, layer_inputs
from axforge.axcompiler.quantize.algorithm import Phase, Quantization, QuantizingAlgorithm, algorithm
from axforge.axcompiler.statistics.artefacts import Statistics
from axforge.axcompiler.statistics.base import F32, F64, StatisticPoint
from axforge.axcompiler.statistics.channels import ChannelMeans

#: layers whose bias is corrected (MatMul has none)
CORRECTED = ("Conv", "Gemm")


@algorithm
@dataclass(frozen=True)
class BiasCorrection(QuantizingAlgorithm):
    """Takes back by the bias what rounding the weights adds to the mean of each channel."""

    name: ClassVar[str] = "bias_correction"
    phase: ClassVar[Phase] = Phase.LAYERS
    on: ClassVar[bool] = True

    def needs(self, plan: Plan) -> Iterable[StatisticPoint]:
        """The channel means of what layers multiply."""
        return [StatisticPoint(name, ChannelMeans(axis)) for name, axis in layer_inputs(plan).items()]

    def apply(self, quantization: Quantization, statistics: Statistics) -> None:
        """Correct the bias of each layer whose operand was measured; a layer without a bias gets one."""
        means = statistics.channels.get(ChannelMeans.name, {})
        for layer in quantization.layers.values():
            mean = means.get(layer.node.inputs[0])
            if mean is not None and layer.node.op_type in CORRECTED:
                bias = np.zeros(len(layer.product_scale), np.float32) if layer.bias is None else layer.bias
                layer.bias = (bias - shift(layer.node, layer.weight, layer.rounded, mean)).astype(np.float32)


def shift(node: NodeView, weight: F32, rounded: F64, means: F32 | F64) -> F64:
    """What rounding adds to the mean of each channel of a layer's result: [M]. means: of the operand's channels."""
    error = rounded - weight.astype(np.float64)
    mean = means.astype(np.float64)
    if node.op_type == "Conv":
        groups = int(node.attributes.get("group", 1))
        summed = error.reshape(*error.shape[:2], -1).sum(axis=2).reshape(groups, -1, error.shape[1])
        return np.einsum("gmc,gc->gm", summed, mean.reshape(groups, -1)).reshape(-1)
    if node.op_type == "Gemm" and node.attributes.get("transB", 0):
        return error @ mean
    return mean @ error
