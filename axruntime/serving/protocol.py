"""Messages of the Open Inference Protocol: JSON, with tensors in it or, by the binary tensor extension, behind it.

https://github.com/open-inference/open-inference-protocol (REST, version 2) and the binary tensor data extension of Triton Inference
Server, which its client library uses by default. Nothing in a message is trusted: each length is compared with what is there.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from axforge.axruntime.lazy import Array
from axforge.axruntime.serving.limits import Refused

#: The header that says how many bytes of the body are JSON.
JSON_LENGTH = "Inference-Header-Content-Length"
_DATATYPES = {
    "BOOL": "bool",
    **{f"{kind.upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
_NAMES = {dtype: name for name, dtype in _DATATYPES.items()}
_DIMENSIONS = 32
Parameters = dict[str, str | int | float | bool | None]


class WireInput(msgspec.Struct):
    """An input tensor as a request writes it."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class WireOutput(msgspec.Struct):
    """An output that a request asks for."""

    name: str
    parameters: Parameters = {}


class WireRequest(msgspec.Struct):
    """The JSON of a request."""

    inputs: list[WireInput]
    outputs: list[WireOutput] = []
    id: str = ""
    parameters: Parameters = {}


@dataclass(frozen=True)
class InferRequest:
    """A request: its inputs by name (BYTES as an array of bytes objects), and what is wanted. outputs: (name, binary); () for all.

    binary: whether outputs that are not named go behind the JSON.
    """

    id: str
    inputs: Mapping[str, Array]
    outputs: tuple[tuple[str, bool], ...]
    binary: bool


def datatype(dtype: str) -> str:
    """The protocol's name of a NumPy type; text and bytes are BYTES."""
    return _NAMES.get(dtype, "BYTES")


def read_request(body: bytes, json_length: str | None) -> InferRequest:
    """The request that a body holds. json_length: what the header JSON_LENGTH says. Raises Refused."""
    head, tail = _split(body, json_length)
    try:
        wire = msgspec.json.decode(head, type=WireRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Refused(400, f"The request is not JSON of an inference request: {e}.") from None
    inputs: dict[str, Array] = {}
    at = 0
    for tensor in wire.inputs:
        if tensor.name in inputs:
            raise Refused(400, f"Input '{tensor.name}' is given twice.")
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            inputs[tensor.name] = _of_json(tensor)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(tail) - at:
            raise Refused(400, f"Input '{tensor.name}' has binary_data_size {size}, and {len(tail) - at} bytes are left in the body.")
        inputs[tensor.name] = _of_bytes(tensor, tail[at : at + size])
        at += size
    if at != len(tail):
        raise Refused(400, f"{len(tail) - at} bytes behind the JSON belong to no input. Give each input its binary_data_size.")
    binary = wire.parameters.get("binary_data_output") is True
    outputs = tuple((output.name, output.parameters.get("binary_data", binary) is True) for output in wire.outputs)
    return InferRequest(wire.id, inputs, outputs, binary)


def _split(body: bytes, json_length: str | None) -> tuple[bytes, memoryview]:
    if json_length is None:
        return body, memoryview(b"")
    if not (json_length.isascii() and json_length.isdecimal()) or len(json_length) > 18 or int(json_length) > len(body):
        raise Refused(400, f"{JSON_LENGTH} is {json_length[:40]!r}, and the body has {len(body)} bytes.")
    return body[: int(json_length)], memoryview(body)[int(json_length) :]


def _count(tensor: WireInput) -> int:
    """How many elements a tensor has. Raises Refused for a shape that cannot be one."""
    if len(tensor.shape) > _DIMENSIONS or any(not 1 <= side < 2**31 for side in tensor.shape):
        raise Refused(400, f"Input '{tensor.name}' has a shape that no tensor has.")
    return math.prod(tensor.shape)


def _dtype(tensor: WireInput) -> str:
    if tensor.datatype not in _DATATYPES:
        raise Refused(400, f"Input '{tensor.name}' has datatype {tensor.datatype[:20]!r}. There are: BYTES, {', '.join(_DATATYPES)}.")
    return _DATATYPES[tensor.datatype]


def _of_bytes(tensor: WireInput, data: memoryview) -> Array:
    count = _count(tensor)
    if tensor.datatype == "BYTES":
        return _objects(tensor, _pieces(tensor, data, count))
    dtype = np.dtype(_dtype(tensor)).newbyteorder("<")
    if count * dtype.itemsize != len(data):
        what = f"has shape {tensor.shape} of {tensor.datatype}, which is {count * dtype.itemsize} bytes, and {len(data)} were sent"
        raise Refused(400, f"Input '{tensor.name}' {what}.")
    if dtype == np.bool_ and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise Refused(400, f"Input '{tensor.name}' is BOOL, and has bytes other than 0 and 1.")
    return np.frombuffer(data, dtype).reshape(tensor.shape)


def _pieces(tensor: WireInput, data: memoryview, count: int) -> list[bytes]:
    """The elements of a BYTES tensor: each begins with its length, 4 bytes, little endian."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        if at + 4 > len(data) or (end := at + 4 + struct.unpack_from("<I", data, at)[0]) > len(data):
            raise Refused(400, f"Input '{tensor.name}': element {len(found)} is longer than the data (4 bytes with its length come first).")
        found.append(bytes(data[at + 4 : end]))
        at = end
    if len(found) != count:
        raise Refused(400, f"Input '{tensor.name}' has shape {tensor.shape}, and {len(found)} elements were sent.")
    return found


def _of_json(tensor: WireInput) -> Array:
    if tensor.data is msgspec.UNSET:
        raise Refused(400, f"Input '{tensor.name}' has neither data nor binary_data_size.")
    count = _count(tensor)
    try:
        data = msgspec.json.decode(tensor.data)
        if tensor.datatype == "BYTES":
            return _objects(tensor, [_text(item) for item in _flat(data)], count)
        kind = "b" if tensor.datatype == "BOOL" else "iu" if "INT" in tensor.datatype else "iuf"
        value = np.asarray(data)
        if value.size and value.dtype.kind not in kind:
            raise ValueError(f"values that are not {tensor.datatype}")
        _within(value, _dtype(tensor))
        value = value.astype(_dtype(tensor))
    except (ValueError, TypeError, OverflowError, RecursionError, msgspec.DecodeError) as e:
        raise Refused(400, f"The data of input '{tensor.name}' cannot be read: {str(e)[:200]}.") from None
    if value.size != count:
        raise Refused(400, f"Input '{tensor.name}' has shape {tensor.shape}, and {value.size} values were sent.")
    return value.reshape(tensor.shape)


def _within(value: Array, dtype: str) -> None:
    if "int" in dtype and value.size:
        limits = np.iinfo(dtype)
        if value.min() < limits.min or value.max() > limits.max:
            raise ValueError(f"values outside of {limits.min} to {limits.max}")


def _flat(data: object) -> list[object]:
    return [item for part in data for item in _flat(part)] if isinstance(data, list) else [data]


def _text(item: object) -> bytes:
    if not isinstance(item, str):
        raise TypeError("BYTES in JSON are strings")
    return item.encode()


def _objects(tensor: WireInput, found: list[bytes], count: int | None = None) -> Array:
    if count is not None and len(found) != count:
        raise Refused(400, f"Input '{tensor.name}' has shape {tensor.shape}, and {len(found)} elements were sent.")
    value = np.empty(len(found), object)
    value[:] = found
    return value.reshape(tensor.shape)


def chosen(request: InferRequest, names: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    """The outputs that a request wants, of those called `names`, and which are binary. Raises Refused for one that there is not."""
    for name, _ in request.outputs:
        if name not in names:
            raise Refused(400, f"The model has no output '{name[:80]}'. Outputs are: {', '.join(names)}.")
    return request.outputs or tuple((name, request.binary) for name in names)


def write_response(
    model: str, request: InferRequest, outputs: Mapping[str, Array], parameters: Mapping[str, float]
) -> tuple[bytes, dict[str, str]]:
    """The body of the answer, and its headers. Raises Refused for an output that is wanted and not there."""
    tensors: list[dict[str, object]] = []
    behind: list[bytes] = []
    for name, binary in chosen(request, list(outputs)):
        value = outputs[name]
        said: dict[str, object] = {"name": name, "datatype": datatype(value.dtype.name), "shape": list(value.shape)}
        if binary:
            behind.append(_as_bytes(value))
            said["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            said["data"] = [_readable(item) for item in value.ravel().tolist()]
        tensors.append(said)
    document = {"model_name": model, "model_version": "1", "id": request.id, "parameters": dict(parameters), "outputs": tensors}
    head = msgspec.json.encode(document)
    if not behind:
        return head, {"Content-Type": "application/json"}
    return b"".join([head, *behind]), {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(head))}


def _readable(item: object) -> object:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else item


def _as_bytes(value: Array) -> bytes:
    if datatype(value.dtype.name) != "BYTES":
        return np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
    items = [item if isinstance(item, bytes) else str(item).encode() for item in value.ravel().tolist()]
    return b"".join(struct.pack("<I", len(item)) + item for item in items)
