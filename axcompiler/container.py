"""The section container that holds `.axmodel` files and serialised graphs.

Grammar, little-endian, every section on a 64-byte boundary so that it can be memory-mapped:

    file    := magic[8] version:u32 count:u32 size:u64 toc_digest[32] reserved[8] entry*count section*
    entry   := name[16] (UTF-8, NUL padded) offset:u64 length:u64 digest[32]
    digest  := SHA-256 of the section's bytes (toc_digest: of the entries' bytes)

Reading executes nothing; every offset, length and digest is checked before a byte is used.
"""

import hashlib
import mmap
import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path

from axforge.axcompiler.errors import FormatError

ALIGN = 64
_HEAD = struct.Struct("<8sIIQ32s8x")
_ENTRY = struct.Struct("<16sQQ32s")
MAX_SECTIONS = 64

Buffer = bytes | bytearray | memoryview


def _aligned(n: int) -> int:
    return (n + ALIGN - 1) // ALIGN * ALIGN


def encode(magic: bytes, version: int, sections: Mapping[str, Buffer]) -> bytes:
    """The bytes of a container. Sections keep their order; equal input gives equal bytes."""
    if len(magic) != 8 or len(sections) > MAX_SECTIONS or any(len(name.encode()) > 16 for name in sections):
        raise ValueError(f"a container has an 8-byte magic and at most {MAX_SECTIONS} sections with names of at most 16 bytes")
    offset = _aligned(_HEAD.size + _ENTRY.size * len(sections))
    entries = b""
    for name, data in sections.items():
        entries += _ENTRY.pack(name.encode(), offset, len(data), hashlib.sha256(data).digest())
        offset += _aligned(len(data))
    out = bytearray(offset)
    _HEAD.pack_into(out, 0, magic, version, len(sections), offset, hashlib.sha256(entries).digest())
    out[_HEAD.size : _HEAD.size + len(entries)] = entries
    for i, data in enumerate(sections.values()):
        at = _ENTRY.unpack_from(entries, i * _ENTRY.size)[1]
        out[at : at + len(data)] = data
    return bytes(out)


def decode(data: Buffer, magic: bytes, versions: range, *, where: str, kind: str) -> dict[str, memoryview]:
    """Views of a container's sections by name. Raises FormatError, naming `where`, unless all of it is sound.

    kind: what the reader expects, for the message (".axmodel").
    """
    view = memoryview(data)
    fix = "Compile the model again, or copy the file again from where it came from."
    if len(view) < _HEAD.size or bytes(view[:8]) != magic:
        raise FormatError(f"this is not an {kind} file (its first bytes are not {magic!r})", where=where, fix=fix)
    _, version, count, size, toc = _HEAD.unpack_from(view)
    if version not in versions:
        raise FormatError(
            f"format version {version} is not one this axforge reads ({versions.start} to {versions.stop - 1})",
            where=where,
            fix="Compile the model again with this version.",
        )
    if size != len(view):
        raise FormatError(f"the file has {len(view)} bytes and should have {size}: it is truncated or was added to", where=where, fix=fix)
    end = _HEAD.size + count * _ENTRY.size
    if count > MAX_SECTIONS or end > size or hashlib.sha256(view[_HEAD.size : end]).digest() != toc:
        raise FormatError("the table of sections is damaged", where=where, fix=fix)
    sections: dict[str, memoryview] = {}
    at = _aligned(end)
    for i in range(count):
        raw, offset, length, digest = _ENTRY.unpack_from(view, _HEAD.size + i * _ENTRY.size)
        name = raw.rstrip(b"\0").decode("utf-8", "replace")
        if offset != at or length > size - offset or name in sections:
            raise FormatError(f"section '{name}' is outside the file or overlaps another", where=where, fix=fix)
        section = view[offset : offset + length]
        if hashlib.sha256(section).digest() != digest:
            raise FormatError(f"section '{name}' is damaged (its SHA-256 does not match)", where=where, fix=fix)
        if any(view[offset + length : offset + _aligned(length)]):
            raise FormatError(f"the padding after section '{name}' is not zero", where=where, fix=fix)
        sections[name] = section
        at += _aligned(length)
    if at != size or any(view[end : _aligned(end)]) or any(view[56:64]):
        raise FormatError("there are bytes outside all sections", where=where, fix=fix)
    return sections


def mapped(path: Path) -> memoryview:
    """The bytes of the file at `path`, which stay what they are whatever happens to the file.

    Where the system has memory files, they are in one that is mapped, so that pages which are not needed for a while can be given back.
    A mapping of the file itself would end the process with SIGBUS when somebody truncates the file.
    Raises FormatError when there is no such file, or it is empty.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as f:
            found = os.fstat(f.fileno())
            if found.st_size == 0 and not stat.S_ISFIFO(found.st_mode):
                raise FormatError("the file is empty", where=str(path), fix="Compile the model again.")
            if not stat.S_ISREG(found.st_mode):
                raise FormatError("this is not a regular file", where=str(path), fix="Give the path of a compiled model.")
            if not hasattr(os, "memfd_create"):
                return memoryview(f.read())
            return _copied(f.fileno(), found.st_size, path)
    except OSError as e:
        raise FormatError(f"cannot be read: {e.strerror}", where=str(path)) from e


def _without_waiting(path: str, flags: int) -> int:
    """Opens a file; a pipe too, without waiting for its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _copied(file: int, size: int, path: Path) -> memoryview:
    memory = os.memfd_create("axmodel")
    try:
        done = 0
        while done < size:
            count = os.sendfile(memory, file, done, size - done)
            if count == 0:
                raise FormatError("the file became shorter while it was read", where=str(path), fix="Load it again.")
            done += count
        return memoryview(mmap.mmap(memory, size, access=mmap.ACCESS_READ))
    finally:
        os.close(memory)


def read(path: Path, magic: bytes, versions: range, *, kind: str) -> dict[str, memoryview]:
    """Sections of the container at `path`. Raises FormatError as `decode` and `mapped` do."""
    return decode(mapped(path), magic, versions, where=str(path), kind=kind)


def write_atomic(path: Path, data: Buffer) -> None:
    """Write `path` so that it has its old content or all of the new one, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
