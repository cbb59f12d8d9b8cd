"""The engine `reference`: the NumPy definition of the arithmetic, as an `Engine`."""

from collections.abc import Mapping

from axforge.axcompiler.ir import Graph
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.reference import Reference
from axforge.axruntime.engines.signature import quantization, signature


class ReferenceEngine:
    """A graph, run by `numerics.py`."""

    name = "reference"

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inputs, self.outputs = signature(graph, graph.inputs), signature(graph, graph.outputs)
        self.quantization = quantization(graph)
        self._reference = Reference(graph)

    def run(self, feeds: Mapping[str, Array], *, raw: bool = False) -> dict[str, Array]:
        """Outputs by name; see `Engine.run`."""
        return self._reference.run(feeds, raw=raw)

    def close(self) -> None:
        """Nothing is held."""
