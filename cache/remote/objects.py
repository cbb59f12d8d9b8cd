"""Object stores and whatever else fsspec reaches: s3://, gs://, abfs://, sftp:// …, with the same names as the HTTP cache."""

from pathlib import Path
from typing import Any

import fsspec

from axforge.cache.errors import masked
from axforge.cache.remote.base import RemoteError, Sink

_PIECE = 1 << 20


class ObjectRemote:
    """`url`: as fsspec understands it; credentials come from where its driver looks for them."""

    def __init__(self, url: str) -> None:
        self._shown = masked(url)
        self._fs: Any
        self._fs, self._base = fsspec.core.url_to_fs(url)

    def describe(self) -> str:
        """Its URL without credentials."""
        return self._shown

    def _path(self, kind: str, name: str) -> str:
        return f"{self._base.rstrip('/')}/{kind}/{name}"

    def get(self, kind: str, name: str, limit: int, sink: Sink) -> bool:
        """See Remote."""
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
        """See Remote."""
        try:
            return bool(self._fs.exists(self._path(kind, name)))
        except Exception as error:  # see get
            raise _wrapped(error) from error

    def put(self, kind: str, name: str, source: Path | bytes) -> None:
        """See Remote. Object stores show an object when it is complete; other readers check what they get."""
        path = self._path(kind, name)
        try:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            if isinstance(source, bytes):
                self._fs.pipe_file(path, source)
            else:
                self._fs.put_file(str(source), path)
        except Exception as error:  # see get
            raise _wrapped(error) from error


def _wrapped(error: Exception) -> RemoteError:
    return RemoteError(f"failed ({type(error).__name__}: {masked(str(error))[:200]})", grave=True)
