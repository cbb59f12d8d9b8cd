"""A plain folder, such as a network share, with the same names as the HTTP cache: <folder>/ac/<key>, <folder>/cas/<sha256>."""

import os
from collections.abc import Iterator
from pathlib import Path

from axforge.cache.digest import open_regular
from axforge.cache.disk import unique_name
from axforge.cache.remote.base import RemoteError, Sink, register

_PIECE = 1 << 20


class FolderRemote:
    """A folder that several machines see. Writes are renamed into place; readers check everything that they get."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def describe(self) -> str:
        """The path of the folder."""
        return str(self._root)

    def get(self, kind: str, name: str, limit: int, sink: Sink) -> bool:
        """Download a stored content or record into `sink`; see Remote."""
        try:
            count = 0
            with open_regular(self._root / kind / name) as stream:
                for piece in _pieces(stream.fileno()):
                    count += len(piece)
                    if count > limit:
                        raise RemoteError(f"holds more than the {limit} bytes that were expected", grave=False)
                    sink(piece)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise RemoteError(f"cannot be read ({error.strerror})", grave=True) from error
        return True

    def has(self, kind: str, name: str) -> bool:
        """Whether the remote has a content or record; see Remote."""
        try:
            return (self._root / kind / name).is_file()
        except OSError as error:
            raise RemoteError(f"cannot be read ({error.strerror})", grave=True) from error

    def put(self, kind: str, name: str, source: Path | bytes) -> None:
        """Upload a content or record; see Remote."""
        temporary = self._root / kind / f".{unique_name()}"
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, "xb") as stream:
                    if isinstance(source, bytes):
                        stream.write(source)
                    else:
                        with open(source, "rb") as origin:
                            for piece in _pieces(origin.fileno()):
                                stream.write(piece)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(temporary, self._root / kind / name)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise RemoteError(f"cannot be written ({error.strerror})", grave=True) from error


@register("", "file")
def _open(url: str, token: str) -> FolderRemote:
    return FolderRemote(Path(url.removeprefix("file://")).expanduser().absolute())


def _pieces(handle: int) -> Iterator[bytes]:
    while piece := os.read(handle, _PIECE):
        yield piece
