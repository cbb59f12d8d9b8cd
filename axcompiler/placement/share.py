"""How much of a network's work the AIPU does."""

from collections.abc import Sequence

from axforge.axcompiler.onnx_graph.views import ModelView
from axforge.axcompiler.operators import multiply_adds
from axforge.axcompiler.placement.place import Placement
from axforge.axcompiler.support import NAMED, Offloaded, Share


def share(view: ModelView, placements: Sequence[Placement]) -> Share:
    """The share of a model whose nodes have been placed, in the order of its nodes."""
    work = [multiply_adds(node) for node in view.nodes]
    rest = [
        Offloaded(p.node, p.op_type, amount, p.place, p.reason)
        for p, amount in zip(placements, work, strict=True)
        if amount and p.place != "aipu"
    ]
    rest.sort(key=lambda one: -one.multiply_adds)
    return Share(sum(work), sum(work) - sum(one.multiply_adds for one in rest), tuple(rest[:NAMED]))
