"""The parts of a model that run on the CPU."""

from axforge.axcompiler.ir.graph import Graph, Op, operator
from axforge.axcompiler.ir.rules import require


@operator
class Island(Op, frozen=True, kw_only=True, tag="island"):
    """A float32 ONNX model run on the CPU by onnxruntime; `island` names it in `Graph.islands`.

    The model's inputs and outputs have the names of `inputs` and `outputs`, in that order. Quantized inputs are
    dequantized before it, quantized outputs are quantized after it; all else passes as it is (`islands.py` runs it).
    """

    island: str
    reason: str = ""

    arity = None

    def check(self, graph: Graph) -> None:
        """An island may take and make tensors of any type and number."""
        require(self.island in graph.islands, f"there is no island '{self.island}'")
