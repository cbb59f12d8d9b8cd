"""manifest.json: the padded buffers at the border of the AIPU, and every tensor's quantization."""

from collections.abc import Sequence

import msgspec

from axforge.axcompiler import __version__, ir
from axforge.axcompiler.ir import Graph, quant_of
from axforge.axcompiler.program import Header

MANIFEST_VERSION = "1.0"


def head_and_tail(graph: Graph) -> tuple[list[ir.Island], list[ir.Island]]:
    """Islands that need nothing of the AIPU (the head), and islands that give nothing to it (the tail)."""
    fed, head = set(graph.inputs) | set(graph.constants), []
    for op in graph.ops:
        if isinstance(op, ir.Island) and fed.issuperset(op.inputs):
            head.append(op)
            fed.update(op.outputs)
    wanted: set[str] = set()
    tail = []
    for op in reversed(graph.ops):
        if isinstance(op, ir.Island) and not wanted.intersection(op.outputs) and op not in head:
            tail.append(op)
        else:
            wanted.update(op.inputs)
    return head, tail[::-1]


def border(graph: Graph) -> tuple[list[str], list[str]]:
    """Quantized tensors that the AIPU part between head and tail takes and gives, in the graph's order."""
    head, tail = head_and_tail(graph)
    body = [op for op in graph.ops if op not in head and op not in tail]
    used = {n for op in body for n in op.inputs}
    made = {n for op in body for n in op.outputs}
    given = [*graph.inputs, *(n for op in head for n in op.outputs)]
    asked = [*(n for op in tail for n in op.inputs), *graph.outputs]
    takes = [n for n in dict.fromkeys(given) if n in used and graph.tensors[n].quant]
    gives = [n for n in dict.fromkeys(asked) if n in made and graph.tensors[n].quant]
    return takes, gives


def manifest_json(graph: Graph, header: Header, name: str) -> bytes:
    """The manifest. Shapes are NHWC; the first number is the batch: one frame a core is handed over at once."""
    head, tail = head_and_tail(graph)
    takes, gives = border(graph)

    def params(names: Sequence[str]) -> list[tuple[float, int]]:
        return [(q.scale, q.zero_point) for q in (quant_of(graph, n) for n in names)]

    def padded(names: Sequence[str]) -> list[list[int]]:
        return [[header.ports[n].shape[0] * header.cores, *header.ports[n].shape[1:]] for n in names]

    document = {
        "manifest_version": MANIFEST_VERSION,
        "name": name,
        "sdk_version": __version__,
        "target": header.target,
        "aipu_cores": header.cores,
        "model_lib_file": "model.json",
        "model_file": "model.axmodel",
        "input_names": takes,
        "output_names": gives,
        "quantize_params": params(takes),
        "dequantize_params": params(gives),
        "input_shapes": padded(takes),
        "output_shapes": padded(gives),
        "input_shapes_original": [graph.tensors[n].shape for n in takes],
        "output_shapes_original": [graph.tensors[n].shape for n in gives],
        "input_dtypes": ["int8"] * len(takes),
        "output_dtypes": ["int8"] * len(gives),
        "n_padded_ch_inputs": [header.ports[n].pads for n in takes],
        "n_padded_ch_outputs": [header.ports[n].pads for n in gives],
        "input_fill": [header.ports[n].fill for n in takes],
        "input_tensor_layout": "NHWC",
        "preprocess_graph": _islands(head),
        "postprocess_graph": _islands(tail),
        "islands": [_island(op, head, tail) for op in graph.ops if isinstance(op, ir.Island)],
        "tensor_quantization": {n: (t.quant.scale, t.quant.zero_point) for n, t in sorted(graph.tensors.items()) if t.quant},
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _islands(ops: Sequence[ir.Island]) -> str:
    """Where the float32 ONNX of these islands lie: parts of the section `islands` of the `.axmodel`, by name."""
    return ",".join(f"model.axmodel#islands/{op.island}" for op in ops)


def _island(op: ir.Island, head: Sequence[ir.Op], tail: Sequence[ir.Op]) -> dict[str, object]:
    where = "head" if op in head else "tail" if op in tail else "middle"
    return {"name": op.island, "operator": op.name, "where": where, "inputs": op.inputs, "outputs": op.outputs, "reason": op.reason}
