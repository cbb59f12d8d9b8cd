"""The factors of Gemm move into its constants."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from axforge.axcompiler.check.passes.base import RepeatedPass, float_constant
from axforge.axcompiler.onnx_graph.net import Net, attribute, set_attribute


@dataclass(frozen=True)
class PlainGemm(RepeatedPass):
    """Move alpha and beta of a Gemm into its constant weight and bias.

    Gemm (alpha, beta, weight, bias)      becomes      Gemm (1, 1, alpha * weight, beta * bias)
    """

    at: ClassVar[tuple[int, ...]] = (380,)

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        changed = []
        for node in net.nodes:
            alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
            if node.op_type != "Gemm" or node.domain or (alpha == 1.0 and beta == 1.0):
                continue
            weight = float_constant(net, node.input[1])
            has_bias = len(node.input) > 2 and bool(node.input[2])
            bias = float_constant(net, node.input[2]) if has_bias else np.zeros(0)
            if weight is None or bias is None:
                continue
            node.input[1] = net.add_constant(f"{node.name}_weight", (weight * alpha).astype(np.float32))
            if has_bias:
                node.input[2] = net.add_constant(f"{node.name}_bias", (bias * beta).astype(np.float32))
            set_attribute(node, "alpha", 1.0)
            set_attribute(node, "beta", 1.0)
            changed.append(f"alpha and beta of '{node.name}'")
        return changed
