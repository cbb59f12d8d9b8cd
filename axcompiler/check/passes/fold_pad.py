"""Zero padding moves into the convolution after it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from onnx import NodeProto

from axforge.axcompiler.check.passes.base import RepeatedPass
from axforge.axcompiler.onnx_graph.net import Net, attribute, set_attribute


@dataclass(frozen=True)
class FoldPad(RepeatedPass):
    """Move zero padding of an image into the convolution after it.

    x ── Pad (zeros on the image axes) ── Conv      becomes      x ── Conv with larger pads
    """

    at: ClassVar[tuple[int, ...]] = (360,)
    on_quantized: ClassVar[bool] = True

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        makers, users = net.makers(), net.users()
        for node in net.nodes:
            pad = makers.get(node.input[0]) if node.op_type == "Conv" else None
            if pad is None or pad.op_type != "Pad" or pad.output[0] in net.output_names or len(users[pad.output[0]]) != 1:
                continue
            amounts = _zero_pad(net, pad)
            auto = attribute(node, "auto_pad", b"NOTSET")
            if amounts is None or auto not in (b"NOTSET", b"VALID"):
                continue
            half = len(amounts) // 2
            spatial = [*amounts[2:half], *amounts[half + 2 :]]
            old = list(attribute(node, "pads", [0] * len(spatial)))
            if any(amounts[:2]) or any(amounts[half : half + 2]) or min(spatial) < 0:
                continue
            set_attribute(node, "pads", [a + b for a, b in zip(old, spatial, strict=True)])
            set_attribute(node, "auto_pad", "NOTSET")
            node.input[0] = pad.input[0]
            net.remove([pad], f"merged into the padding of '{node.name}'")
            return [f"merged '{pad.name}' into '{node.name}'"]
        return []


def _zero_pad(net: Net, pad: NodeProto) -> list[int] | None:
    mode = attribute(pad, "mode", b"constant")
    amounts = net.constant(pad.input[1]) if len(pad.input) > 1 else None
    value = net.constant(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(1)
    axes_given = len(pad.input) > 3 and bool(pad.input[3])
    if mode != b"constant" or amounts is None or value is None or axes_given or bool(np.any(value != 0)):
        return None
    return [int(a) for a in amounts.reshape(-1)]
