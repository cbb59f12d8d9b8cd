"""Quantized operators become float operators between DequantizeLinear and QuantizeLinear, which is the one form read later."""

from dataclasses import dataclass
from typing import ClassVar

from axforge.axcompiler.check.passes.base import PreparingPass
from axforge.axcompiler.check.qoperators import REWRITES, FloatForm, IntegerTensor, Unreadable
from axforge.axcompiler.names import Names
from axforge.axcompiler.onnx_graph.net import Net


@dataclass(frozen=True)
class QdqFromOperators(PreparingPass):
    """Write quantized operators (QLinearConv, QLinearAdd, QGemm, ...) as Q and DQ around float operators.

    a, b ── QLinearAdd ── y      becomes      a ── DQ ──┐
                                              b ── DQ ── Add ── Q ── y

    Every scale and zero point stays what it is, so the codes do too. An operator that is used in a way that Q and DQ cannot express (a
    scale for each row of an activation, a scale that is computed) stays.
    """

    at: ClassVar[tuple[int, ...]] = (270,)

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        notes: list[str] = []
        names = Names({*net.names(), *(node.name for node in net.nodes)})
        real: dict[IntegerTensor, str] = {}
        nodes = []
        for node in net.nodes:
            rewrite = REWRITES.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
            draft = FloatForm(net, node, names, real)
            try:
                if rewrite is None:
                    nodes.append(node)
                    continue
                rewrite(draft)
            except Unreadable as why:
                notes.append(f"kept '{node.name}': {why}")
                nodes.append(node)
            else:
                nodes += draft.commit()
                notes.append(f"wrote '{node.name}' with Q and DQ")
        net.nodes = nodes
        return notes
