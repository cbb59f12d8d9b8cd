"""Operators that sum products and run on the CPU only: how much work they are."""

import math

from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import counts, recurrent

recurrent("GRU", 5)
recurrent("LSTM", 5, 6)
recurrent("RNN", 5)


@counts("GRU", "LSTM", "RNN")
def _recurrent(view: NodeView) -> int:
    """Every weight once for each step of each sequence."""
    steps, sequences = c.shape_of(view)[:2] if not c.attribute(view, "layout", 0) else c.shape_of(view)[1::-1]
    return steps * sequences * (c.product(c.shape_of(view, 1)) + c.product(c.shape_of(view, 2)))


@counts("Einsum")
def _einsum(view: NodeView) -> int:
    """A product for each combination of indices, where two operands or more are multiplied."""
    terms = str(c.attribute(view, "equation", "")).replace(" ", "").split("->")[0].split(",")
    if len(terms) < 2 or any("." in term or len(term) != len(c.shape_of(view, i)) for i, term in enumerate(terms)):
        return 0
    sizes = {letter: size for i, term in enumerate(terms) for letter, size in zip(term, c.shape_of(view, i), strict=True)}
    return math.prod(sizes.values())
