"""Automatic padding is written out."""

from dataclasses import dataclass
from typing import Any, ClassVar

from onnx import NodeProto

from axforge.axcompiler.check.passes.base import RepeatedPass
from axforge.axcompiler.onnx_graph.net import Net, attribute, set_attribute


@dataclass(frozen=True)
class ExplicitPads(RepeatedPass):
    """Write automatic padding out as numbers.

    Conv | MaxPool | AveragePool (auto_pad = SAME_UPPER | SAME_LOWER | VALID)      becomes      the same with pads
    """

    at: ClassVar[tuple[int, ...]] = (340,)

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        changed = []
        for node in net.nodes:
            auto = attribute(node, "auto_pad", b"NOTSET")
            if node.op_type not in ("Conv", "MaxPool", "AveragePool") or auto == b"NOTSET" or attribute(node, "ceil_mode", 0):
                continue
            x, kernel = net.shapes.get(node.input[0]), _kernel(net, node)
            if x is None or kernel is None:
                continue
            before, after = [], []
            strides, dilations = attribute(node, "strides", [1] * len(kernel)), attribute(node, "dilations", [1] * len(kernel))
            for size, k, s, d in zip(x[2:], kernel, strides, dilations, strict=True):
                total = 0 if auto == b"VALID" else max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
                small = total // 2
                before.append(small if auto != b"SAME_LOWER" else total - small)
                after.append(total - before[-1])
            set_attribute(node, "auto_pad", "NOTSET")
            set_attribute(node, "pads", [*before, *after])
            changed.append(f"pads of '{node.name}'")
        return changed


def _kernel(net: Net, node: NodeProto) -> tuple[int, ...] | None:
    given: Any = attribute(node, "kernel_shape")
    if given is not None:
        return tuple(given)
    weight = net.shapes.get(node.input[1]) if len(node.input) > 1 else None
    return weight[2:] if weight is not None else None
