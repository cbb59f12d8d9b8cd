"""Nodes and constants that nothing reads are removed."""

from dataclasses import dataclass
from typing import ClassVar

from axforge.axcompiler.check.passes.base import RepeatedPass
from axforge.axcompiler.onnx_graph.net import Net, reads


@dataclass(frozen=True)
class RemoveDead(RepeatedPass):
    """Remove nodes and constants that nothing reads.

    x ─┬─ op ── y
       └─ op ── z (nothing reads z)      becomes      x ── op ── y
    """

    at: ClassVar[tuple[int, ...]] = (900,)
    on_quantized: ClassVar[bool] = True

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        needed = set(net.output_names)
        dead = []
        for node in reversed(net.nodes):
            if needed.isdisjoint(o for o in node.output if o):
                dead.append(node)
            else:
                needed.update(reads(node))
        net.remove(dead, "nothing uses its result")
        unused = [name for name in net.constants if name not in needed]
        for name in unused:
            del net.constants[name]
        return [f"removed '{node.name}', which nothing reads" for node in dead]
