"""A fused graph as bytes and back: the `graph.axgraph` artefact, and three sections of an `.axmodel`."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import container, spec
from axforge.axcompiler.container import Buffer
from axforge.axcompiler.errors import FormatError
from axforge.axcompiler.ir import IR_VERSION, Graph, GraphHeader

MAGIC = b"AXGRAPH\0"
VERSION = 1
_DTYPES = {"int8", "uint8", "int32", "int64", "float32"}


def _aligned(n: int) -> int:
    return (n + container.ALIGN - 1) // container.ALIGN * container.ALIGN


def to_sections(graph: Graph) -> dict[str, bytes]:
    """Sections `graph` (JSON header), `weights` (constants, each on 64 bytes) and `islands` (ONNX models back to back)."""
    constants = {name: np.ascontiguousarray(value) for name, value in graph.constants.items()}
    header = GraphHeader(
        ir_version=IR_VERSION,
        name=graph.name,
        tensors=dict(graph.tensors),
        ops=graph.ops,
        inputs=graph.inputs,
        outputs=graph.outputs,
        constants={name: (value.dtype.name, value.shape) for name, value in constants.items()},
        islands={name: len(model) for name, model in graph.islands.items()},
    )
    weights = b"".join(value.tobytes().ljust(_aligned(value.nbytes), b"\0") for value in constants.values())
    return {"graph": msgspec.json.encode(header), "weights": weights, "islands": b"".join(graph.islands.values())}


def from_sections(sections: Mapping[str, Buffer], *, where: str) -> Graph:
    """The graph in `sections`; constants are read-only views of the buffer. Raises FormatError on anything unsound."""
    for name in ("graph", "weights", "islands"):
        if name not in sections:
            raise FormatError(f"section '{name}' is missing", where=where, fix="Compile the model again.")
    try:
        header = msgspec.json.decode(sections["graph"], type=GraphHeader)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise FormatError(f"the graph cannot be understood: {e}", where=where, fix="Compile the model again.") from e
    if header.ir_version != IR_VERSION:
        raise FormatError(
            f"the graph has version {header.ir_version}; this axforge reads version {IR_VERSION}",
            where=where,
            fix="Compile the model again with this version.",
        )
    graph = Graph(
        name=header.name,
        tensors=header.tensors,
        ops=header.ops,
        inputs=header.inputs,
        outputs=header.outputs,
        constants=_constants(header, sections["weights"], where),
        islands=_islands(header, sections["islands"], where),
    )
    try:
        spec.check(graph)
    except spec.SpecError as e:
        raise FormatError(f"the graph is unsound: {e}", where=where, fix="Compile the model again.") from e
    return graph


def _constants(header: GraphHeader, data: Buffer, where: str) -> dict[str, NDArray[np.generic]]:
    view, at = memoryview(data), 0
    out: dict[str, NDArray[np.generic]] = {}
    for name, (dtype, shape) in header.constants.items():
        if dtype not in _DTYPES or len(shape) > spec.MAX_RANK or not all(0 <= d < spec.MAX_ELEMENTS for d in shape):
            raise FormatError(f"constant '{name}' has an impossible type {dtype}{list(shape)}", where=where)
        count = 1
        for d in shape:
            count *= d
        nbytes = count * np.dtype(dtype).itemsize
        if at + nbytes > len(view):
            raise FormatError(f"constant '{name}' is outside the weights", where=where)
        array = np.frombuffer(view[at : at + nbytes], dtype).reshape(shape)
        array.flags.writeable = False
        out[name] = array
        at += _aligned(nbytes)
    if at != len(view):
        raise FormatError("the weights are longer or shorter than the graph says", where=where)
    return out


def _islands(header: GraphHeader, data: Buffer, where: str) -> dict[str, bytes]:
    view, at = memoryview(data), 0
    out: dict[str, bytes] = {}
    for name, length in header.islands.items():
        if length < 0 or at + length > len(view):
            raise FormatError(f"island '{name}' is outside its section", where=where)
        out[name] = bytes(view[at : at + length])
        at += length
    if at != len(view):
        raise FormatError("the islands are longer or shorter than the graph says", where=where)
    return out


def save(graph: Graph, path: Path) -> None:
    """Write `graph` to `path`, atomically; equal graphs give equal bytes."""
    container.write_atomic(path, container.encode(MAGIC, VERSION, to_sections(graph)))


def load(path: Path) -> Graph:
    """The graph at `path`. Raises FormatError."""
    return from_sections(container.read(path, MAGIC, range(1, VERSION + 1), kind=".axgraph"), where=str(path))
