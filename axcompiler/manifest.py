"""`manifest.json`: what a program that drives the AIPU must know of an `.axmodel`, as one type for whoever writes or reads it.

It lists the padded buffers at the border of the AIPU, the float32 parts around them, and the quantization of every tensor. All of it
follows from the `.axmodel`, so a reader can compare the two: `describe` says what a manifest has to hold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from axforge.axcompiler import ir
from axforge.axcompiler.errors import FormatError
from axforge.axcompiler.ir import Graph, quant_of
from axforge.axcompiler.program import Port, ProgramHeader

FILE = "manifest.json"
MODEL_FILE = "model.axmodel"
PIPELINE_FILE = "model.json"
MANIFEST_VERSION = "1.0"
Shape = tuple[int, ...]
#: Scale and zero point.
Params = tuple[float, int]


class FloatPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An island: a part that runs in float32 on the CPU. where: 'head' (before the AIPU), 'middle', or 'tail' (after it)."""

    name: str
    operator: str
    where: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class BorderTensor:
    """A quantized tensor that the AIPU takes or gives.

    shape: as in the ONNX. padded_shape: of the int8 NHWC buffer, which begins with the number of frames that are handed over at once (one
    for each core).
    pads: 8 numbers in the order of numpy.pad, of one frame.
    """

    name: str
    scale: float
    zero_point: int
    dtype: str
    shape: Shape
    padded_shape: Shape
    pads: Shape


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document, its keys in the order in which they are written. docs/axmodel-format.md explains them."""

    manifest_version: str
    name: str
    sdk_version: str
    target: str
    aipu_cores: int
    model_lib_file: str
    model_file: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    quantize_params: tuple[Params, ...]
    dequantize_params: tuple[Params, ...]
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    input_shapes_original: tuple[Shape, ...]
    output_shapes_original: tuple[Shape, ...]
    input_dtypes: tuple[str, ...]
    output_dtypes: tuple[str, ...]
    n_padded_ch_inputs: tuple[Shape, ...]
    n_padded_ch_outputs: tuple[Shape, ...]
    input_fill: tuple[int, ...]
    input_tensor_layout: str
    preprocess_graph: str
    postprocess_graph: str
    islands: tuple[FloatPart, ...]
    tensor_quantization: dict[str, Params]

    @property
    def inputs(self) -> tuple[BorderTensor, ...]:
        """What the AIPU takes, in order."""
        columns = self.quantize_params, self.input_dtypes, self.input_shapes_original, self.input_shapes, self.n_padded_ch_inputs
        return _border_tensors(self.input_names, *columns)

    @property
    def outputs(self) -> tuple[BorderTensor, ...]:
        """What the AIPU gives, in order."""
        columns = self.dequantize_params, self.output_dtypes, self.output_shapes_original, self.output_shapes, self.n_padded_ch_outputs
        return _border_tensors(self.output_names, *columns)


def _border_tensors(
    names: Sequence[str],
    params: Sequence[Params],
    dtypes: Sequence[str],
    shapes: Sequence[Shape],
    padded: Sequence[Shape],
    pads: Sequence[Shape],
) -> tuple[BorderTensor, ...]:
    rows = zip(names, params, dtypes, shapes, padded, pads, strict=True)
    return tuple(BorderTensor(name, scale, zero, dtype, shape, larger, pad) for name, (scale, zero), dtype, shape, larger, pad in rows)


def describe(graph: Graph, header: ProgramHeader, name: str, sdk_version: str) -> Manifest:
    """The manifest of a graph and the header of its program. Raises FormatError when they do not belong together."""
    head, tail = head_and_tail(graph)
    takes, gives = border(graph)
    return Manifest(
        manifest_version=MANIFEST_VERSION,
        name=name,
        sdk_version=sdk_version,
        target=header.target,
        aipu_cores=header.cores,
        model_lib_file=PIPELINE_FILE,
        model_file=MODEL_FILE,
        input_names=tuple(takes),
        output_names=tuple(gives),
        quantize_params=_params(graph, takes),
        dequantize_params=_params(graph, gives),
        input_shapes=_padded(header, takes),
        output_shapes=_padded(header, gives),
        input_shapes_original=tuple(graph.tensors[n].shape for n in takes),
        output_shapes_original=tuple(graph.tensors[n].shape for n in gives),
        input_dtypes=("int8",) * len(takes),
        output_dtypes=("int8",) * len(gives),
        n_padded_ch_inputs=tuple(_port(header, n).pads for n in takes),
        n_padded_ch_outputs=tuple(_port(header, n).pads for n in gives),
        input_fill=tuple(_port(header, n).fill for n in takes),
        input_tensor_layout="NHWC",
        preprocess_graph=_sections(head),
        postprocess_graph=_sections(tail),
        islands=tuple(_float_part(op, head, tail) for op in graph.ops if isinstance(op, ir.Island)),
        tensor_quantization={n: (t.quant.scale, t.quant.zero_point) for n, t in sorted(graph.tensors.items()) if t.quant},
    )


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


def _params(graph: Graph, names: Sequence[str]) -> tuple[Params, ...]:
    return tuple((q.scale, q.zero_point) for q in (quant_of(graph, n) for n in names))


def _port(header: ProgramHeader, name: str) -> Port:
    if name not in header.ports:
        raise FormatError(f"the program has no buffer for '{name}', which the AIPU takes or gives", fix="Compile the model again.")
    return header.ports[name]


def _padded(header: ProgramHeader, names: Sequence[str]) -> tuple[Shape, ...]:
    """NHWC shapes of the buffers; the first number is the batch: one frame a core is handed over at once."""
    return tuple((p.shape[0] * header.cores, *p.shape[1:]) for p in (_port(header, n) for n in names))


def _sections(ops: Sequence[ir.Island]) -> str:
    """Where the float32 ONNX of these islands are: parts of the section `islands` of the `.axmodel`, by name."""
    return ",".join(f"{MODEL_FILE}#islands/{op.island}" for op in ops)


def _float_part(op: ir.Island, head: Sequence[ir.Op], tail: Sequence[ir.Op]) -> FloatPart:
    where = "head" if op in head else "tail" if op in tail else "middle"
    return FloatPart(op.island, op.name, where, op.inputs, op.outputs, op.reason)


def to_bytes(manifest: Manifest) -> bytes:
    """The file `manifest.json`."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def parse(data: bytes, where: str) -> Manifest:
    """The manifest in `data`. Raises FormatError that names `where`."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise FormatError(f"the manifest cannot be understood: {e}", where=where, fix="Compile the model again.") from e


@dataclass(frozen=True)
class Contradiction:
    """A value that is not what it should be. key: its place in the document, `input_shapes[0][3]`; None means that the value is missing."""

    key: str
    written: object
    real: object


def contradictions(written: Manifest, real: Manifest) -> Iterator[Contradiction]:
    """What a manifest says that `real`, made of the `.axmodel` itself, does not."""
    yield from _differences("", msgspec.to_builtins(written), msgspec.to_builtins(real))


def _differences(key: str, written: object, real: object) -> Iterator[Contradiction]:
    if isinstance(written, dict) and isinstance(real, dict):
        for name in {**real, **written}:
            yield from _differences(f"{key}.{name}" if key else name, written.get(name), real.get(name))
    elif isinstance(written, list | tuple) and isinstance(real, list | tuple) and len(written) == len(real):
        for i, (one, other) in enumerate(zip(written, real, strict=True)):
            yield from _differences(f"{key}[{i}]", one, other)
    elif written != real:
        yield Contradiction(key, written, real)
