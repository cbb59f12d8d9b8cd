"""Large contents in pieces that are cut by what is in them, so that of a file that changed in part only that part is sent.

A cut is where the hash of the 32 bytes before it ends in 20 zero bits: in 1 MB on average, and never before 256 kB or after 4 MB. It
depends on these bytes alone, so bytes that are inserted or changed move only the cuts near them. docs/cache.md has what it saves.
"""

import hashlib
import json
import mmap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.cache.digest import sha256
from axforge.cache.key import canonical, is_hash
from axforge.cache.record import MAX_BLOB, Blob

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Contents of at least so many bytes are cut.
LARGE = 4 << 20
#: Zero bits of the hash at a cut: pieces have two to the power of it bytes on average.
BITS = 20
_WINDOW = 32
_BLOCK = 128 << 10  # what is computed for it fits into a cache of the CPU

#: The pieces of contents, in order, by the contents' SHA-256.
Lists = dict[str, tuple[Blob, ...]]


@lru_cache(maxsize=1)
def _gear() -> "NDArray[np.uint32]":
    """A number for each byte; the same everywhere, or pieces of two machines would differ."""
    import numpy as np  # loaded when something large is sent or received

    digests = (hashlib.sha256(b"axforge gear %d" % byte).digest() for byte in range(256))
    return np.array([int.from_bytes(digest[:4], "little") for digest in digests], np.uint32)


def _candidates(data: memoryview, bits: int) -> Iterator[int]:
    """Where the hash of the window before a position ends in zeros."""
    import numpy as np  # loaded when something large is sent or received

    for start in range(0, len(data), _BLOCK):
        first = max(0, start - _WINDOW + 1)
        values = _gear()[np.frombuffer(data[first : start + _BLOCK], np.uint8)]
        shifted = np.empty_like(values)
        for step in (1, 2, 4, 8, 16):  # the hash of a window of 2 * step bytes from those of two windows of step bytes
            np.left_shift(values[:-step], step, out=shifted[step:])
            np.add(values[step:], shifted[step:], out=values[step:])
        found = np.flatnonzero((values & np.uint32((1 << bits) - 1)) == 0) + first + 1
        yield from found[found > start].tolist()


def cut(data: memoryview, bits: int = 0) -> Iterator[memoryview]:
    """The pieces of a content, in order. bits: other than BITS, for measuring."""
    bits = bits or BITS
    least, most, start = 1 << (bits - 2), 4 << bits, 0
    for end in (*_candidates(data, bits), len(data)):
        while end - start > most:
            yield data[start : start + most]
            start += most
        if end - start >= least or (end == len(data) and end > start):
            yield data[start:end]
            start = end


def pieces(path: Path) -> Iterator[bytes]:
    """The pieces of a file that is not empty, each a copy. OSError when it cannot be read."""
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
        for piece in cut(data):
            with piece:
                yield bytes(piece)


@dataclass
class Seeds:
    """Pieces that files here have, so that they need not be received. The files are read when a piece is first asked for."""

    paths: Iterable[Path]
    _found: dict[str, tuple[Path, int, int]] | None = field(default=None, init=False)

    def piece(self, name: str) -> bytes | None:
        """The piece of this SHA-256; None if no file has it."""
        if self._found is None:
            self._found = {name: place for path in self.paths for name, place in _places(path)}
        if name not in self._found:
            return None
        path, offset, size = self._found[name]
        try:
            with open(path, "rb") as stream:
                stream.seek(offset)
                data = stream.read(size)
        except OSError:
            return None  # cleaned meanwhile
        return data if sha256(data) == name else None


def _places(path: Path) -> Iterator[tuple[str, tuple[Path, int, int]]]:
    offset = 0
    try:
        for piece in pieces(path):
            yield sha256(piece), (path, offset, len(piece))
            offset += len(piece)
    except (OSError, ValueError):
        return  # cleaned meanwhile, or empty


def encode(lists: Mapping[str, tuple[Blob, ...]]) -> bytes:
    """The lists of pieces as canonical JSON: {content: [[sha256, size]]}."""
    return canonical({name: [[piece.sha256, piece.size] for piece in found] for name, found in lists.items()})


def decode(data: bytes) -> Lists:
    """The lists of pieces. ValueError when that is not what it is."""
    try:
        lists = {name: tuple(Blob(piece, size) for piece, size in found) for name, found in json.loads(data).items()}
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    for name, found in lists.items():
        sound = all(is_hash(piece.sha256) and type(piece.size) is int and 0 < piece.size <= MAX_BLOB for piece in found)
        if not is_hash(name) or not sound:
            raise ValueError("a piece is not named by its SHA-256 and size")
    return lists
