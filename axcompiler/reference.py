"""Runs a fused graph as its operators evaluate themselves: the plainest engine there is, and the one all others must equal."""

from collections.abc import Mapping

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.islands import Islands, from_real, to_real
from axforge.axcompiler.numerics import Array


class Reference:
    """A graph made ready to run. `run` may be called any number of times."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._islands = Islands(graph)

    def run(self, feeds: Mapping[str, Array], *, raw: bool = False) -> dict[str, Array]:
        """Outputs by name. Quantized inputs may be given as float32 (they are quantized) or as int8 codes.

        raw: give quantized outputs as int8 codes rather than dequantized float32.
        """
        values = self.run_all(feeds)
        outs = {name: values[name] for name in self.graph.outputs}
        return outs if raw else {name: to_real(value, self.graph.tensors[name]) for name, value in outs.items()}

    def run_all(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every tensor of the graph by name, as codes."""
        values: dict[str, Array] = {n: np.asarray(self.graph.constants[n]) for n in self.graph.tensors if n in self.graph.constants}
        values |= entry_codes(self.graph, feeds)
        for op in self.graph.ops:
            operands = [values[name] for name in op.inputs]
            results = self._islands.run(op, operands) if isinstance(op, ir.Island) else [op.evaluate(self.graph, operands)]
            values.update(zip(op.outputs, results, strict=True))
        return values


def entry_codes(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The graph's inputs as it takes them: codes where quantized. Raises AxforgeError on a missing or misshapen feed."""
    values = {name: checked_feed(graph, feeds, name) for name in graph.inputs}
    return {n: v if v.dtype == np.int8 or not graph.tensors[n].quant else from_real(v, graph.tensors[n]) for n, v in values.items()}


def checked_feed(graph: Graph, feeds: Mapping[str, Array], name: str) -> Array:
    """What is given for one input. Raises AxforgeError where it is missing or misshapen."""
    if name not in feeds:
        raise AxforgeError(f"input '{name}' is missing", where=graph.name, fix=f"Inputs are: {', '.join(graph.inputs)}.")
    value, shape = np.asarray(feeds[name]), graph.tensors[name].shape
    if len(value.shape) != len(shape) or any(d not in (-1, v) for d, v in zip(shape, value.shape, strict=True)):
        raise AxforgeError(f"input '{name}' has shape {list(value.shape)} and must have {list(shape)}", where=graph.name)
    return value
