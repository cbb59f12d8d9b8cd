"""What an engine says of a tensor it takes or gives."""

from axforge.axcompiler.ir import Graph


def signature(graph: Graph, names: tuple[str, ...]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of what `run` takes or gives by default: float32 where a tensor is quantized."""
    return {n: (graph.tensors[n].shape, "float32" if graph.tensors[n].quant else graph.tensors[n].dtype) for n in names}


def quantization(graph: Graph) -> dict[str, tuple[float, int]]:
    """Scale and zero point of the inputs and outputs that `run` takes and gives as codes too, by name."""
    quants = {name: graph.tensors[name].quant for name in (*graph.inputs, *graph.outputs)}
    return {name: (quant.scale, quant.zero_point) for name, quant in quants.items() if quant}
