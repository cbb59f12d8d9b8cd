"""As much of protobuf's wire format as Bazel's ActionResult needs: two field types, three messages.

    ActionResult {repeated OutputFile output_files = 2; Digest stdout_digest = 6}    (exit_code = 4 is 0, and so absent)
    OutputFile {string path = 1; Digest digest = 2}
    Digest {string hash = 1; int64 size_bytes = 2}

A server may add fields, such as the worker's name; whatever is not one of these is skipped.
"""

from collections.abc import Iterator, Sequence

from axforge.cache.record import Blob


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _bytes_field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _digest(blob: Blob) -> bytes:
    size = _varint(2 << 3) + _varint(blob.size) if blob.size else b""
    return _bytes_field(1, blob.sha256.encode()) + size


def action_result(files: Sequence[tuple[str, Blob]], stdout: Blob | None) -> bytes:
    """An ActionResult with these output files (path, content) and log."""
    encoded = b"".join(_bytes_field(2, _bytes_field(1, path.encode()) + _bytes_field(2, _digest(blob))) for path, blob in files)
    return encoded + (_bytes_field(6, _digest(stdout)) if stdout is not None else b"")


def output_files(data: bytes) -> list[tuple[str, Blob]]:
    """Path and content of the output files of an ActionResult. ValueError when it is malformed."""
    found = []
    for number, value in _fields(data):
        if number == 2 and isinstance(value, bytes):
            file = dict(_fields(value))
            path, content = file.get(1, b""), file.get(2, b"")
            if not isinstance(path, bytes) or not isinstance(content, bytes):
                raise ValueError("a field of an output file has another type")
            digest = dict(_fields(content))
            name, size = digest.get(1, b""), digest.get(2, 0)
            if not isinstance(name, bytes) or not isinstance(size, int):
                raise ValueError("a field of a digest has another type")
            found.append((path.decode(), Blob(name.decode(), size)))
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field. ValueError when the message breaks off or has a type that protobuf lacks."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        if kind == 2:
            length, at = _read_varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > len(data):
            raise ValueError("it breaks off")
        if kind == 2:
            yield number, data[at : at + length]
        at += length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it breaks off")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("a number has more than 64 bits")
