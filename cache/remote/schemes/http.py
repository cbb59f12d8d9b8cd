"""Bazel's HTTP cache: GET, HEAD and PUT of {base}/ac/<key> and {base}/cas/<sha256>.

bazel-remote, nginx with WebDAV and artifact stores speak it.
"""

import base64
import http.client
import io
import os
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from axforge.cache.errors import CacheError
from axforge.cache.remote.base import RemoteError, Sink, register

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PIECE = 1 << 18
#: most bytes that are read of a page that comes with an error
_DISCARDED = 1 << 16
_LIKE = "Write it like https://host:8080/path."
T = TypeVar("T")


class _Paced:
    """A socket on which one request, with its answer, has one deadline. http.client writes to it and reads from its `makefile`.

    The deadline of each wait is what is left of the whole, so that a server which sends a byte of a header now and then gains nothing.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._begun = self._timeout = self._rate = 0.0
        self._count = 0

    def begin(self, timeout: float, rate: float) -> None:
        """The request begins: it has `timeout` seconds, and one second more for each `rate` bytes."""
        self._begun, self._timeout, self._rate, self._count = time.monotonic(), timeout, rate, 0

    def _arm(self) -> None:
        left = self._begun + self._timeout + self._count / self._rate - time.monotonic()
        if left <= 0:
            raise RemoteError("is too slow", grave=True)
        self._sock.settimeout(left)

    def sendall(self, data: bytes) -> None:
        """Sends all of `data`."""
        view = memoryview(data)
        while view:
            self._arm()
            count = self._sock.send(view[:_PIECE])
            self.transferred(count)
            view = view[count:]

    def receive(self, raw: io.RawIOBase, buffer: "WriteableBuffer") -> int | None:
        """Reads what there is of `raw`, a file of the socket."""
        self._arm()
        return raw.readinto(buffer)

    def transferred(self, count: int) -> None:
        """So many bytes of content came, which have a limit of their own; headers, of which there may be any number, buy no time."""
        self._count += count

    def makefile(self, mode: str) -> io.BufferedReader:
        """A file for reading."""
        assert mode == "rb"
        return io.BufferedReader(_PacedFile(self, self._sock.makefile("rb", buffering=0)))

    def close(self) -> None:
        """Closes the socket, once its files are closed."""
        self._sock.close()


class _PacedFile(io.RawIOBase):
    """What is received on a `_Paced` socket."""

    def __init__(self, paced: _Paced, raw: io.RawIOBase) -> None:
        self._paced, self._raw = paced, raw

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        """Up to len(buffer) bytes; 0 at the end."""
        return self._paced.receive(self._raw, buffer)

    def close(self) -> None:
        """Closes the file below too."""
        self._raw.close()
        super().close()


class HttpRemote:
    """A cache server. user:password in the URL or `token` (bearer) are sent with every request, over TLS or loopback only.

    connect_timeout: seconds to connect. timeout: seconds for a request from its first byte to the last one of the answer, and one second
    more for each `min_rate` bytes that were transferred. Not for use by several threads; a forked child opens its own connection.
    """

    def __init__(self, url: str, *, token: str = "", connect_timeout: float = 2.0, timeout: float = 10.0, min_rate: float = 500e3) -> None:
        parts = urllib.parse.urlsplit(url)
        try:
            port = parts.port
        except ValueError as error:
            raise CacheError(f"The address of the remote cache is not valid: {error}.", fix=_LIKE) from error
        if not parts.hostname:
            raise CacheError("The address of the remote cache names no host.", fix=_LIKE)
        self._tls, self._host, self._port = parts.scheme == "https", parts.hostname, port
        self._base = parts.path.rstrip("/")
        self._shown = f"{parts.scheme}://{parts.hostname}{f':{port}' if port else ''}{self._base}"
        self._headers = _credentials(parts, token)
        if self._headers and not self._tls and self._host not in _LOOPBACK:
            raise CacheError(
                "Credentials would cross the network in the clear.", where=self._shown, fix="Use https:// for this remote cache."
            )
        self._connect_timeout, self._timeout, self._min_rate = connect_timeout, timeout, min_rate
        self._owner = 0
        self._pace: _Paced | None = None
        self._connection: http.client.HTTPConnection | None = None

    def describe(self) -> str:
        """The address without credentials."""
        return self._shown

    def get(self, kind: str, name: str, limit: int, sink: Sink) -> bool:
        """Download a stored content or record into `sink`; see Remote. The sink is only fed by an answer of 200."""

        def use(answer: http.client.HTTPResponse) -> bool:
            if answer.status == 404:
                self._discard(answer)
                return False
            self._expect(answer, 200)
            length = answer.getheader("Content-Length")
            if length is not None and length.isdigit() and int(length) > limit:
                raise RemoteError(f"sent {length} bytes where at most {limit} were expected", grave=False)
            self._receive(answer, limit, sink)
            return True

        return self._request("GET", kind, name, None, use)

    def has(self, kind: str, name: str) -> bool:
        """Whether the remote has a content or record; see Remote."""

        def use(answer: http.client.HTTPResponse) -> bool:
            self._discard(answer)
            if answer.status != 404:
                self._expect(answer, 200)
            return answer.status == 200

        return self._request("HEAD", kind, name, None, use)

    def put(self, kind: str, name: str, source: Path | bytes) -> None:
        """Upload a content or record; see Remote."""

        def use(answer: http.client.HTTPResponse) -> None:
            self._discard(answer)
            self._expect(answer, 200, 201, 204)

        self._request("PUT", kind, name, source, use)

    def _request(self, method: str, kind: str, name: str, source: Path | bytes | None, use: Callable[[http.client.HTTPResponse], T]) -> T:
        """One request; again on a new connection if the server closed the one that was kept open."""
        kept = self._connection is not None
        try:
            return self._once(method, kind, name, source, use)
        except (ConnectionError, http.client.RemoteDisconnected) as error:
            self._drop()
            if not kept:
                raise RemoteError(f"cannot be reached ({_reason(error)})", grave=True) from error
        except (TimeoutError, OSError, http.client.HTTPException) as error:
            self._drop()
            raise RemoteError(f"does not answer ({_reason(error)})", grave=True) from error
        except RemoteError:
            self._drop()  # the rest of its answer is not needed
            raise
        try:
            return self._once(method, kind, name, source, use)
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise RemoteError(f"cannot be reached ({_reason(error)})", grave=True) from error
        except RemoteError:
            self._drop()
            raise

    def _once(self, method: str, kind: str, name: str, source: Path | bytes | None, use: Callable[[http.client.HTTPResponse], T]) -> T:
        connection = self._connected()
        assert self._pace is not None
        self._pace.begin(self._timeout, self._min_rate)
        headers = {**self._headers, "User-Agent": "axforge-cache/1"}
        if source is not None:
            headers["Content-Type"] = "application/octet-stream"
        body = None
        if source is not None:
            size = len(source) if isinstance(source, bytes) else source.stat().st_size
            headers["Content-Length"] = str(size)
            body = self._pieces(source)
        connection.request(method, f"{self._base}/{kind}/{name}", body=body, headers=headers)
        return use(connection.getresponse())

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None or self._owner != os.getpid():
            self._owner = os.getpid()
            kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
            self._connection = kind(self._host, self._port, timeout=self._connect_timeout)
            self._connection.connect()
            self._pace = _Paced(self._connection.sock)
            self._connection.sock = self._pace
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _pieces(self, source: Path | bytes) -> Iterator[bytes]:
        if isinstance(source, bytes):
            yield source
            return
        with open(source, "rb") as stream:
            while piece := stream.read(_PIECE):
                yield piece

    def _receive(self, answer: http.client.HTTPResponse, limit: int, sink: Sink) -> None:
        count = 0
        while piece := answer.read1(_PIECE):
            count += len(piece)
            if count > limit:
                raise RemoteError(f"sent more than the {limit} bytes that were expected", grave=False)
            sink(piece)
            if self._pace is not None:
                self._pace.transferred(len(piece))
        if answer.length:  # read1 ends in the same way for a closed connection and a complete answer
            raise RemoteError(f"broke off {answer.length} bytes before the end", grave=False)
        answer.read()  # nothing is left, but only this lets the connection be used again

    def _discard(self, answer: http.client.HTTPResponse) -> None:
        """Reads an answer whose content does not matter. The connection is given up if there is more than a page of it."""
        answer.read(_DISCARDED)
        if not answer.isclosed():
            self._drop()

    def _expect(self, answer: http.client.HTTPResponse, *statuses: int) -> None:
        if answer.status not in statuses:
            refused = answer.status in (401, 403, 405, 407)
            hint = {401: ": credentials are missing or wrong", 403: ": not allowed"}.get(answer.status, "")
            raise RemoteError(f"answered {answer.status}{hint}", grave=refused)


@register("http", "https")
def _open(url: str, token: str) -> HttpRemote:
    return HttpRemote(url, token=token)


def _credentials(parts: urllib.parse.SplitResult, token: str) -> dict[str, str]:
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return getattr(error, "strerror", None) or type(error).__name__
