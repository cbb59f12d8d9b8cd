"""Runs the service with uvicorn until it is asked to stop."""

import contextlib
import signal
import socket
from collections.abc import Iterator
from types import FrameType
from typing import TextIO

import msgspec
import uvicorn

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.model import Model
from axforge.axruntime.serving.app import application
from axforge.axruntime.serving.limits import ServingLimits

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000
#: Connections that the system keeps until they are taken.
_BACKLOG = 2048


class ServingOptions(msgspec.Struct, frozen=True):
    """host: the address to listen at; 0.0.0.0 for other machines too. port: 0 takes a free one."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    limits: ServingLimits = ServingLimits()


def serve(model: Model, options: ServingOptions, out: TextIO) -> None:
    """Answer requests until Ctrl-C or SIGTERM; those under way are answered first. Says where it listens. Raises AxforgeError."""
    app = application(model, options.limits)
    with _listening(options) as listener, _signals_kept():
        host, port = listener.getsockname()[:2]
        address = f"[{host}]" if ":" in host else host
        print(f"{model.name} is served at http://{address}:{port} (a page to try it; Ctrl-C stops)", file=out, flush=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=int(options.limits.seconds) + 1)
        uvicorn.Server(config).run(sockets=[listener])
    print("Stopped; every request that was taken has been answered.", file=out, flush=True)


@contextlib.contextmanager
def _listening(options: ServingOptions) -> Iterator[socket.socket]:
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listener = socket.create_server((options.host, options.port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else e
        fix = "Choose another with --port and --host; --port 0 takes one that is free." if options.port else "Check --host."
        raise AxforgeError(f"the server cannot listen there: {reason}", where=f"{options.host}:{options.port}", fix=fix) from e
    with listener:
        yield listener


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """uvicorn stops at a signal and then sends it again; asking a server to stop is not an error, so that does nothing here."""

    def ignore(number: int, frame: FrameType | None) -> None:
        pass

    before = {number: signal.signal(number, ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
