"""Does a serialised ONNX model refer to data outside itself? Answered from its bytes: importing onnx would take longer than an island.

A model that is part of a file from anywhere must not make onnxruntime open other files, and what onnxruntime itself refuses differs from
version to version. Only the protobuf fields (onnx.proto) that lead to tensors are followed.
"""

from axforge.axcompiler.container import Buffer

#: message -> field number -> message in it
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
#: protobuf's own limit on messages within messages
_DEPTH = 100


def refers_outside(model: Buffer) -> bool:
    """Whether any tensor of the ONNX model has its data in another file. Raises ValueError on bytes that are not a protobuf message."""
    return _search(memoryview(model), "model", 0)


def _search(data: memoryview, kind: str, depth: int) -> bool:
    if depth > _DEPTH:
        raise ValueError("messages are nested too deeply")
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            if kind == "tensor" and field == _DATA_LOCATION and value:
                return True
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field ends beyond its message")
            if kind == "tensor" and field == _EXTERNAL_DATA:
                return True
            inner = _FIELDS[kind].get(field)
            if inner and _search(data[at : at + size], inner, depth + 1):
                return True
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("there is a field of an unknown kind")
    return False


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at `at`, and where the next field begins."""
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number does not end")
