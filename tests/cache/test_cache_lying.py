"""An HTTP cache that answers byte by byte, without end or with too much costs one deadline for each request, and no memory."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from axforge.cache.remote.base import RemoteError
from axforge.cache.remote.schemes.http import HttpRemote

NAME = "0" * 64
TIMEOUT = 0.4


def drip(data: bytes) -> Iterator[bytes]:
    """The bytes one at a time, and then the last one for ever."""
    for byte in data:
        yield bytes([byte])
        time.sleep(0.02)
    while True:
        yield data[-1:]
        time.sleep(0.02)


def repeated(first: bytes, then: bytes) -> Iterator[bytes]:
    yield first
    while True:
        yield then


OK = b"HTTP/1.1 200 OK\r\n"
LIES: dict[str, Callable[[], Iterator[bytes]]] = {
    "the status, byte by byte": lambda: drip(b"H"),
    "headers, byte by byte": lambda: drip(OK + b"A: bbbb"),
    "the length of a chunk, byte by byte": lambda: drip(OK + b"Transfer-Encoding: chunked\r\n\r\n0"),
    "the answer, byte by byte": lambda: drip(OK + b"Content-Length: 100000\r\n\r\nx"),
    "nothing": lambda: iter(()),
    "100 Continue without end": lambda: repeated(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers without end": lambda: repeated(OK, b"A: b\r\n"),
    "trailers without end": lambda: repeated(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
}


@contextmanager
def lying(pieces: Callable[[], Iterator[bytes]]) -> Iterator[tuple[str, list[int]]]:
    """A server that answers each request with these pieces until the other side goes; its URL, and how many bytes it got rid of."""
    listener, sent = socket.create_server(("127.0.0.1", 0)), [0]

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with suppress(OSError):
                    connection.recv(65536)
                    for piece in pieces():
                        connection.sendall(piece)
                        sent[0] += len(piece)
                    connection.recv(1)  # until the client goes
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x", sent
    finally:
        listener.close()


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("method", ["get", "has", "put"])
def test_a_lying_server_costs_one_deadline(lie: str, method: str) -> None:
    with lying(LIES[lie]) as (url, _):
        remote = HttpRemote(url, timeout=TIMEOUT)
        arguments: dict[str, tuple[object, ...]] = {"get": (1 << 20, lambda piece: None), "has": (), "put": (b"data",)}
        begun = time.monotonic()
        with suppress(RemoteError):
            getattr(remote, method)("cas", NAME, *arguments[method])
        assert time.monotonic() - begun < TIMEOUT + 1.5


@pytest.mark.parametrize("lie", ["the status, byte by byte", "headers, byte by byte", "100 Continue without end", "nothing"])
def test_it_is_not_asked_again(lie: str) -> None:
    with lying(LIES[lie]) as (url, _), pytest.raises(RemoteError) as error:
        HttpRemote(url, timeout=TIMEOUT).get("cas", NAME, 1 << 20, lambda piece: None)
    assert error.value.grave


@pytest.mark.parametrize("status", ["404 Not Found", "500 Trouble", "403 Forbidden"])
def test_the_page_of_an_error_is_not_read(status: str) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: 99999999999\r\n\r\n".encode()
    with lying(lambda: repeated(head, b"x" * 65536)) as (url, sent):
        remote = HttpRemote(url, timeout=5)
        for _ in range(2):
            with suppress(RemoteError):
                assert remote.get("ac", NAME, 1 << 20, lambda piece: pytest.fail("it is no content")) is False
        time.sleep(0.05)
        assert sent[0] < 16 << 20  # what fits the buffers of two connections
