"""The only place that hashes.

SHA-256 names whatever may cross a trust border: actions, outputs, inputs in a key. xxh3-128 is ten times as fast and answers
"are these the bytes this machine has seen before": it finds changes and damage, and is never believed across a border.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from axforge.cache.errors import CacheError

#: Read in pieces that stay in the second-level cache of a core.
PIECE = 1 << 18
#: Up to this size both hashes are taken at once; larger files get their SHA-256 when it is asked for.
LAZY_FROM = 4 << 20

Stat = tuple[int, int, int, int, int]


def sha256(data: bytes) -> str:
    """SHA-256 of bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def xxh3(data: bytes) -> str:
    """xxh3-128 of bytes, 32 hex digits."""
    import xxhash  # costs 4 ms, which a command that changes nothing need not pay

    return str(xxhash.xxh3_128_hexdigest(data))


class _Hash(Protocol):
    """What is used of a hash of xxhash (which is not typed)."""

    def update(self, data: bytes | memoryview) -> None:
        """Add bytes to what is hashed."""

    def hexdigest(self) -> str:
        """The hash of all bytes so far, in hex."""


class Hasher:
    """Both hashes of a stream of bytes, in one pass; `strong=False` leaves SHA-256 out."""

    def __init__(self, *, strong: bool = True) -> None:
        import xxhash

        self._weak: _Hash = xxhash.xxh3_128()
        self._strong = hashlib.sha256() if strong else None
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        """Add bytes to what is hashed."""
        self._weak.update(data)
        if self._strong is not None:
            self._strong.update(data)
        self.size += len(data)

    @property
    def xxh3(self) -> str:
        """xxh3-128 so far, 32 hex digits."""
        return self._weak.hexdigest()

    @property
    def sha256(self) -> str:
        """SHA-256 so far, 64 hex digits ('' when it was left out)."""
        return self._strong.hexdigest() if self._strong is not None else ""


class FileDigest:
    """Content of a file: `size` in bytes, `xxh3` (32 hex), `sha256` (64 hex; of a large file computed when first asked for)."""

    __slots__ = ("_later", "_sha256", "size", "xxh3")

    def __init__(self, size: int, xxh3: str, sha256: str = "", later: Callable[[], str] | None = None) -> None:
        """later: computes the SHA-256 from the bytes. With it, `sha256` is no more than what a content of this xxh3 was named before."""
        self.size, self.xxh3, self._sha256, self._later = size, xxh3, sha256, later

    @property
    def sha256(self) -> str:
        """The name of this content. Raises CacheError when the file has changed since its other hash was taken."""
        if not self._sha256:
            self.confirm()
        return self._sha256

    def confirm(self) -> None:
        """Make sure that the name was computed from these bytes, not looked up by xxh3. Raises CacheError like `sha256`."""
        if self._later is not None:
            self._sha256, self._later = self._later(), None

    @property
    def named(self) -> bool:
        """Whether sha256 is known without reading the file."""
        return bool(self._sha256)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileDigest) and (self.size, self.sha256) == (other.size, other.sha256)

    def __hash__(self) -> int:
        return hash((self.size, self.xxh3))

    def __repr__(self) -> str:
        return f"FileDigest({self.size}, xxh3={self.xxh3}, sha256={self._sha256 or 'later'})"


def stat_of(status: os.stat_result) -> Stat:
    """What must be unchanged for content to be taken as unchanged: size, mtime, ctime (ns), inode, device."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def file_stat(path: str | Path) -> Stat:
    """`stat_of` a regular file; CacheError for anything else, with a sentence that says what it is."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise CacheError(f"cannot be read: {error.strerror}.", where=str(path), fix="Check the path and its permissions.") from error
    if not stat.S_ISREG(status.st_mode):
        raise CacheError("is not a regular file.", where=str(path), fix="Only the content of files can be an input or output.")
    return stat_of(status)


def read_into(stream: IO[bytes], hasher: Hasher, write: Callable[[memoryview], object] | None = None) -> None:
    """Feed a whole unbuffered stream to `hasher`, and to `write` when given."""
    buffer = bytearray(PIECE)
    view = memoryview(buffer)
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]
        hasher.update(view[:count])
        if write is not None:
            write(view[:count])


def open_regular(path: str | Path) -> IO[bytes]:
    """A file for reading, unbuffered. Never waits: OSError (EINVAL) for a named pipe or whatever else is not a regular file."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return open(handle, "rb", buffering=0)


def hash_once(path: str | Path, *, strong: bool = False) -> FileDigest:
    """Hash what is in a file now. OSError when it cannot be read. For stored contents, which are compared with what they should be."""
    hasher = Hasher(strong=strong)
    with open_regular(path) as stream:
        read_into(stream, hasher)
    return FileDigest(hasher.size, hasher.xxh3, hasher.sha256)


def hash_file(path: str | Path, *, strong: bool = True) -> tuple[FileDigest, Stat]:
    """Hash a regular file now, and its stat from before. CacheError when it keeps changing or cannot be read.

    A ctime that moves meanwhile is not a change of content (somebody made a link); such a stat just never matches again.
    """
    for _ in range(3):
        before = file_stat(path)
        hasher = Hasher(strong=strong)
        try:
            with open(path, "rb", buffering=0) as stream:
                opened = stat_of(os.fstat(stream.fileno()))
                read_into(stream, hasher)
                after = stat_of(os.fstat(stream.fileno()))
        except OSError as error:
            raise CacheError(f"cannot be read: {error.strerror}.", where=str(path), fix="Check the file and the disk it is on.") from error
        same = before[:2] == opened[:2] == after[:2] and before[3:] == opened[3:] == after[3:]
        if same and hasher.size == after[0]:
            return FileDigest(hasher.size, hasher.xxh3, hasher.sha256), before
    raise CacheError("is being written to while it is read.", where=str(path), fix="Wait until the other program has finished.")
