"""Bias correction: rounded weights shift the mean of each channel by a known amount, which the bias can take back.

E[(w_q - w) * x] = sum over the window of (w_q - w) * E[x]        (Nagel et al., 2019, section 4.2, with measured means)
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from axforge.axcompiler.quantize.algorithm import Phase, Quantization, QuantizingAlgorithm, algorithm
from axforge.axcompiler.statistics.artefacts import Statistics
from axforge.axcompiler.statistics.base import PlacedStatistic
from axforge.axcompiler.statistics.channels import ChannelMeans


@algorithm
@dataclass(frozen=True)
class BiasCorrection(QuantizingAlgorithm):
    """Takes back by the bias what rounding the weights adds to the mean of each channel."""

    name: ClassVar[str] = "bias_correction"
    phase: ClassVar[Phase] = Phase.LAYERS
    on: ClassVar[bool] = True
    needs: ClassVar[tuple[type[PlacedStatistic], ...]] = (ChannelMeans,)

    def apply(self, quantization: Quantization, statistics: Statistics) -> None:
        """Correct the bias of each layer whose operand was measured, if its operator allows that; a layer without a bias gets one."""
        means = statistics.channels.get(ChannelMeans.name, {})
        for layer in quantization.layers.values():
            mean = means.get(layer.node.inputs[0])
            shift = layer.operator.mean_shift
            if mean is not None and shift is not None:
                bias = np.zeros(len(layer.product_scale), np.float32) if layer.bias is None else layer.bias
                error = layer.rounded - layer.weight.astype(np.float64)
                layer.bias = (bias - shift(layer.node, error, mean.astype(np.float64))).astype(np.float32)
