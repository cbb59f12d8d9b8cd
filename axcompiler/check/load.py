"""Reads an ONNX file, or says in a sentence why it cannot be used."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from axforge.axcompiler.check.tensor_data import check_tensor_data
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.onnx_graph.tensors import nodes, tensors, with_inner

#: oldest opset of the default domain that is understood
MIN_OPSET = 9
#: protobuf's limit on one message, and so on `model.onnx` with its weights inside
MAX_BYTES = 2**31 - 1
#: most nodes of a model; its functions may call each other, and so double with every line of the file
MAX_NODES = 200_000
_ONNX = ("", "ai.onnx")
#: domain, name and overload of a function
_Key = tuple[str, str, str]
#: attributes that say where or how far; ONNX's own checks compute with them in types that overflow
_GEOMETRY = frozenset(
    {
        *("axes", "axis", "perm", "group", "blocksize", "repeats", "num_outputs"),
        *("kernel_shape", "strides", "dilations", "pads", "output_padding", "output_shape"),
    }
)


def load_model(path: Path) -> onnx.ModelProto:
    """The model at `path`, weights included. External data must be in the file's own folder.

    Raises CompileError: no such file, no ONNX, truncated, IR or opset not supported, external data missing or outside.
    """
    where = path.name
    try:
        _size_of(path)
        data = path.read_bytes()
    except OSError as e:
        raise CompileError(f"the model cannot be read: {e.strerror or e}", where=where, fix="Give the path of an ONNX file.") from e
    model = parse(data, where)
    _load_external(model, path.parent, where)
    check_tensor_data(model, where)
    if model.ByteSize() > MAX_BYTES:
        raise CompileError("the model with its weights is larger than 2 GiB", where=where, fix="Split it into smaller models.")
    return model


def parse(data: bytes, where: str) -> onnx.ModelProto:
    """The model in `data`, its IR version and opset checked. Raises CompileError."""
    if not data:
        raise CompileError("the file is empty, so it is not an ONNX model", where=where, fix="Export the model again.")
    # field 1 (ir_version) as a varint is what ONNX writers put first, so it tells a cut file from another kind of file
    looks_onnx = data[0] == 0x08
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as e:
        what = "the file is truncated or damaged" if looks_onnx else "this is not an ONNX file"
        raise CompileError(what, where=where, fix="Export the model again, or copy it again from where it came from.") from e
    if not model.HasField("graph") or model.ir_version < 1:
        what = "the file is truncated: it holds no graph" if looks_onnx else "this is not an ONNX file"
        raise CompileError(what, where=where, fix="Export the model again, or copy it again from where it came from.")
    check_versions(model, where)
    _check_nodes(model, where)
    return model


def _check_nodes(model: onnx.ModelProto, where: str) -> None:
    """Raises CompileError where a model is too long, and for attributes that ONNX's own checker lets through."""
    count = expanded(model)
    if count > MAX_NODES:
        what = f"the model has {count:,} nodes, its functions written out; at most {MAX_NODES:,} are supported"
        raise CompileError(what, where=where, fix="Split it into smaller models.")
    for node in nodes(model):
        at = f"{where}: {node.op_type} '{node.name}'"
        if node.op_type == "Constant" and node.domain in _ONNX and len(node.attribute) != 1:
            raise CompileError(f"a Constant has one value, and this one {len(node.attribute)}", where=at, fix="Export the model again.")
        for attribute in node.attribute:
            # an axis, a window or a padding: the sizes that follow from it would fit no counter
            if attribute.name in _GEOMETRY and any(abs(i) >= 2**31 for i in (attribute.i, *attribute.ints)):
                what = f"attribute '{attribute.name}' is {attribute.i or list(attribute.ints)}, which no tensor is large enough for"
                raise CompileError(what, where=at, fix="Export the model again.")


def expanded(model: onnx.ModelProto) -> int:
    """How many nodes the main graph has when the calls of the model's functions are replaced by their bodies.

    A function that calls itself counts once: ONNX's checker refuses it.
    """
    bodies = {(f.domain, f.name, f.overload): list(with_inner(f.node)) for f in model.functions}
    sizes = dict.fromkeys(bodies, 1)
    for key in _callees_first(bodies):
        sizes[key] = sum(sizes.get((n.domain, n.op_type, n.overload), 1) for n in bodies[key])
    return sum(sizes.get((n.domain, n.op_type, n.overload), 1) for n in with_inner(model.graph.node))


def _callees_first(bodies: Mapping[_Key, Sequence[onnx.NodeProto]]) -> Iterator[_Key]:
    """The functions, each after those that it calls; without recursion, since calls may be nested thousands deep."""
    begun: set[_Key] = set()
    for root in bodies:
        stack = [(root, False)]
        while stack:
            key, finished = stack.pop()
            if finished:
                yield key
            elif key not in begun:
                begun.add(key)
                calls = {(n.domain, n.op_type, n.overload) for n in bodies[key]}
                stack += [(key, True), *((called, False) for called in sorted(calls) if called in bodies)]


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default operator set; 0 if the model names none."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def check_versions(model: onnx.ModelProto, where: str) -> None:
    """Raises CompileError unless the installed onnx knows the model's IR version and its opset is supported."""
    newest = onnx.defs.onnx_opset_version()
    opset = opset_of(model)
    if model.ir_version > onnx.IR_VERSION:
        raise CompileError(
            f"the model has ONNX IR version {model.ir_version}; the installed onnx {onnx.__version__} knows up to {onnx.IR_VERSION}",
            where=where,
            fix="Install a newer onnx package, or export the model for an older version.",
        )
    if opset == 0 and not model.opset_import:
        raise CompileError("the file is truncated or damaged: it names no opset", where=where, fix="Export the model again.")
    if opset and not MIN_OPSET <= opset <= newest:
        raise CompileError(
            f"the model uses opset {opset}; supported are {MIN_OPSET} to {newest}",
            where=where,
            fix=f"Export the model again with an opset from {MIN_OPSET} to {newest} (17 is a good choice).",
        )


def _load_external(model: onnx.ModelProto, folder: Path, where: str) -> None:
    for tensor in [t for t in tensors(model) if t.data_location == onnx.TensorProto.EXTERNAL]:
        info = {entry.key: entry.value for entry in tensor.external_data}
        location = info.get("location", "")
        path = _inside(folder, location, f"{where}: weight '{tensor.name}'")
        try:
            offset, length = int(info.get("offset") or 0), int(info["length"]) if info.get("length") else -1
            size = _size_of(path)
            if offset < 0 or offset > size or (length >= 0 and offset + length > size):
                raise CompileError(
                    f"the external data file '{location}' has {size} bytes and should have at least {offset + max(length, 0)}",
                    where=f"{where}: weight '{tensor.name}'",
                    fix="Copy the data file again; it must come from the same export as the model.",
                )
            with path.open("rb") as f:
                f.seek(offset)
                tensor.raw_data = f.read(length) if length >= 0 else f.read()
        except (OSError, ValueError) as e:
            raise CompileError(
                f"the external data file '{location}' cannot be read ({e})",
                where=f"{where}: weight '{tensor.name}'",
                fix=f"Put '{location}' beside the model, under the name the model gives.",
            ) from e
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _size_of(path: Path) -> int:
    """Bytes of a regular file. Raises OSError for anything else: reading a pipe or a device would wait, or never end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a regular file")
    return found.st_size


def _inside(folder: Path, location: str, where: str) -> Path:
    """`location` in `folder`; a CompileError if it leads outside, by `..`, an absolute path or a symbolic link."""
    path = Path(os.path.normpath(folder / location))
    fix = "Only data in the model's own folder is read; save the model with its data beside it."
    outside = not location or Path(location).is_absolute() or not path.is_relative_to(os.path.normpath(folder))
    if outside or (path.exists() and not path.resolve().is_relative_to(folder.resolve())):
        raise CompileError(f"the external data file '{location}' is outside the model's folder", where=where, fix=fix)
    return path
