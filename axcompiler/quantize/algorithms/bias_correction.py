"""Bias correction: rounded weights shift the mean of each channel by a known amount, which the bias can take back.

E[(w_q - w) * x] = sum over the window of (w_q - w) * E[x]        (Nagel et al., 2019, section 4.2, with measured means)
"""

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.onnx_graph.views import NodeView

F64 = NDArray[np.float64]


def shift(node: NodeView, weight: NDArray[np.float32], rounded: F64, means: NDArray[np.float32]) -> F64:
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
