"""A file that grows with the results of a run, and can be read however the run ends."""

import contextlib
import io
import os
from pathlib import Path

from axforge.axruntime.media.sink import unwritable


class GrowingFile:
    """Appends pieces to a file. After each piece it writes an ending, which the next piece replaces, so that the file is always whole.

    A piece that cannot be written, on a full disk say, is taken back: the ending of the piece before is put in its place, where
    there is room for it. path: its final name, which it gets at `close`. hidden: until then it is called `.NAME.PID.part`; otherwise
    it has its name from the start, for formats in which every prefix is valid.
    """

    def __init__(self, path: Path, *, hidden: bool = True) -> None:
        self._path, self._hidden = path, hidden
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.part") if hidden else path
        self._end, self._ending = 0, b""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: io.FileIO = self._temporary.open("wb", buffering=0)
        except OSError as e:
            raise unwritable(path, e) from e

    def append(self, piece: bytes, ending: bytes = b"") -> None:
        """Add a piece, and what makes the file whole after it. Raises AxforgeError, and then the file is as it was before."""
        try:
            self._write(piece + ending)
        except OSError as e:
            with contextlib.suppress(OSError):
                self._write(self._ending)
            raise unwritable(self._path, e) from e
        self._end += len(piece)
        self._ending = ending

    def _write(self, data: bytes) -> None:
        """Replace all that follows the last piece."""
        self._file.seek(self._end)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        self._file.truncate()

    def close(self) -> None:
        """Give the file its name. Raises AxforgeError."""
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            if self._hidden:
                self._temporary.replace(self._path)
        except OSError as e:
            raise unwritable(self._path, e) from e

    def discard(self) -> None:
        """Remove the file."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)
