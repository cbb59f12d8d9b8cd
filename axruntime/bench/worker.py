"""The process of one engine: `python -m axforge.axruntime.bench.worker`. Requests come on standard input, replies go to standard output."""

import importlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.numerics import Array
from axforge.axruntime.bench import memory
from axforge.axruntime.bench.messages import EngineFailed, Load, Loaded, Reply, Request, RoundDone
from axforge.axruntime.bench.timing import run_for, warm_up
from axforge.axruntime.engines import Engine
from axforge.axruntime.engines.factory import engine_for, open_engine

Inputs = Mapping[str, tuple[tuple[int, ...], str]]


def random_feeds(inputs: Inputs, shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, Array]:
    """Arrays for `inputs`, the same for the same seed: floats in 0..1, integers 0 or 1 (which are valid as indices, too).

    shapes: of inputs with free lengths; a free length that they do not name is 1.
    """
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for name, (shape, dtype) in inputs.items():
        given = shapes.get(name, shape)
        lengths = [g if s < 0 else s for s, g in zip(shape, given, strict=True)] if len(given) == len(shape) else shape
        kind = np.dtype(dtype)
        size = [max(length, 1) for length in lengths]
        feeds[name] = rng.random(size, np.float32).astype(kind) if kind.kind == "f" else rng.integers(0, 2, size).astype(kind)
    return feeds


class Bench:
    """A loaded engine that can run rounds."""

    def __init__(self, request: Load, engines: "Engines") -> None:
        engine_version = engines.prepare(request.engine)
        memory.forget_peak()
        self._before = memory.current()
        start = time.perf_counter_ns()
        self.engine = engines.open(request)
        elapsed = time.perf_counter_ns() - start
        feeds = random_feeds(self.engine.inputs, request.shapes, request.seed)
        self._frame: Callable[[], object] = lambda: self.engine.run(feeds)
        path, features = _code_path(self.engine)
        self.loaded = Loaded(
            version=engine_version,
            threads=request.threads,
            code_path=path,
            features=features,
            load_ns=elapsed,
            warm_up=warm_up(self._frame),
            shapes={name: tuple(array.shape) for name, array in feeds.items()},
        )

    def run_round(self, seconds: float) -> RoundDone:
        """Run frames for so long."""
        times = run_for(self._frame, seconds)
        peak = memory.peak()
        growth = None if peak is None or self._before is None else max(peak - self._before, 0)
        return RoundDone(nanoseconds=times, memory_bytes=growth)


class Engines:
    """The engines that a worker can measure: those of axforge. A benchmark of others derives a class from this one."""

    def prepare(self, engine: str) -> str:
        """Import what the engine needs, so that neither time nor memory of that counts as loading a model; returns its version."""
        if engine == "onnx":
            import onnxruntime

            return str(onnxruntime.__version__)
        importlib.import_module("axforge.axruntime.engines.host")
        try:
            return version("axforge")
        except PackageNotFoundError:
            return ""

    def open(self, request: Load) -> Engine:
        """Load the model of `request` into the engine that it names."""
        path = Path(request.file)
        if path.suffix == ".zip":
            from axforge.axruntime.deployed.opening import open_deployed  # not at the top: other files do not need it

            return engine_for(request.engine, open_deployed(path).model, threads=request.threads)
        return open_engine(request.engine, path, threads=request.threads)


def _code_path(engine: object) -> tuple[str, tuple[str, ...]]:
    from axforge.axruntime.engines.host import HostEngine  # not at the top: onnxruntime's process must not pay for it

    if isinstance(engine, HostEngine):
        return engine.isa.name, engine.isa.features
    return "", ()


def serve(requests: BinaryIO, replies: BinaryIO, engines: Engines) -> None:
    """Answer every request until there are no more."""
    bench: Bench | None = None
    for line in requests:
        request: Request = msgspec.json.decode(line, type=Request)
        reply: Reply
        try:
            if isinstance(request, Load):
                bench = Bench(request, engines)
                reply = bench.loaded
            else:
                assert bench is not None, "a round was asked for before a model"
                reply = bench.run_round(request.seconds)
        except AxforgeError as e:
            reply = EngineFailed(what=e.what, where=e.where, fix=e.fix)
        except ImportError as e:
            reply = EngineFailed(
                what=f"a library that the engine needs cannot be imported: {e}", fix="Install it to measure this engine too."
            )
        except MemoryError:
            reply = EngineFailed(what="there is not enough memory for the model", fix="Close other programs, or use a smaller model.")
        replies.write(msgspec.json.encode(reply) + b"\n")
        replies.flush()


def main(engines: Engines) -> None:
    """Serve standard input and output. What libraries print goes to standard error, so that it cannot be taken for a reply."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(sys.stdin.buffer, replies, engines)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(Engines())
