"""Object stores and whatever else fsspec reaches: s3://, gs://, abfs://, sftp:// …, with the same names as the HTTP cache."""

from pathlib import Path
from typing import BinaryIO, Protocol

from axforge.cache.errors import CacheError, masked
from axforge.cache.remote.base import ANY, SCHEMES, RemoteError, Sink, register

_PIECE = 1 << 20


class FileSystem(Protocol):
    """What is used of a file system of fsspec (which is not typed)."""

    def open(self, path: str, mode: str) -> BinaryIO:
        """Open the file at `path`."""

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder at `path`."""

    def makedirs(self, path: str, exist_ok: bool) -> None:
        """Make a folder and those around it."""

    def pipe_file(self, path: str, value: bytes) -> None:
        """Write bytes to a file."""

    def put_file(self, lpath: str, rpath: str) -> None:
        """Copy a file of this machine."""


class ObjectRemote:
    """A folder of a file system of fsspec; credentials come from where its driver looks for them. shown: its URL without credentials."""

    def __init__(self, system: FileSystem, base: str, shown: str) -> None:
        self._fs, self._base, self._shown = system, base, shown

    def describe(self) -> str:
        """Its URL without credentials."""
        return self._shown

    def _path(self, kind: str, name: str) -> str:
        return f"{self._base.rstrip('/')}/{kind}/{name}"

    def get(self, kind: str, name: str, limit: int, sink: Sink) -> bool:
        """Download a stored content or record into `sink`; see Remote."""
        count = 0
        try:
            with self._fs.open(self._path(kind, name), "rb") as stream:
                while piece := stream.read(_PIECE):
                    count += len(piece)
                    if count > limit:
                        break
                    sink(piece)
        except FileNotFoundError:
            return False
        except Exception as error:  # drivers raise what their libraries raise; a remote never fails a build
            raise _wrapped(error) from error
        if count > limit:
            raise RemoteError(f"holds more than the {limit} bytes that were expected", grave=False)
        return True

    def has(self, kind: str, name: str) -> bool:
        """Whether the remote has a content or record; see Remote."""
        try:
            return self._fs.exists(self._path(kind, name))
        except Exception as error:  # see get
            raise _wrapped(error) from error

    def put(self, kind: str, name: str, source: Path | bytes) -> None:
        """Upload a content or record; see Remote. Object stores show an object when it is complete; other readers check what they get."""
        path = self._path(kind, name)
        try:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            if isinstance(source, bytes):
                self._fs.pipe_file(path, source)
            else:
                self._fs.put_file(str(source), path)
        except Exception as error:  # see get
            raise _wrapped(error) from error


@register(ANY)
def _open(url: str, token: str) -> ObjectRemote:
    try:
        from fsspec.core import url_to_fs  # an optional package

        system, base = url_to_fs(url)
    except ImportError as error:
        name = url.partition("://")[0]
        raise CacheError(
            f"Object stores need fsspec and its driver for {name}:// ({error}).",
            where=masked(url),
            fix='Install them (pip install fsspec s3fs, gcsfs, adlfs …), or set mode = "off".',
        ) from error
    except ValueError as error:
        known = ", ".join(f"{scheme}://" for scheme in sorted(SCHEMES) if scheme.isalpha())
        raise CacheError(
            f"No kind of remote cache has addresses like this ({error}).", where=masked(url), fix=f"There are {known} and those of fsspec."
        ) from error
    return ObjectRemote(system, base, masked(url))


def _wrapped(error: Exception) -> RemoteError:
    return RemoteError(f"failed ({type(error).__name__}: {masked(str(error))[:200]})", grave=True)
