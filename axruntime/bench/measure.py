"""The measurement: a process for each engine, alternating rounds, and the figures."""

import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.bench.document import BenchReport, Computer, EngineFigures, SpeedRatio
from axforge.axruntime.bench.messages import EngineFailed, Load, Loaded, Reply, Request, RoundDone, RunRound
from axforge.axruntime.bench.timing import figures

FILE = "model.axmodel"
#: Each engine runs for about so long before it is the other's turn.
_ROUND_SECONDS = 0.25
_LEAST_ROUNDS = 4


#: -P: the folder where the command was typed may have a numpy.py of its own
_WORKER = ("-P", "-m", "axforge.axruntime.bench.worker")


class EngineProcess:
    """An engine in a process of its own. A context manager: leaving it ends the process.

    worker: arguments of the Python that runs `worker.main`; python: that Python, if the engine is not installed for this one.
    """

    def __init__(self, name: str, load: Load, worker: Sequence[str] = _WORKER, python: str = sys.executable) -> None:
        self.name, self.load = name, load
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - a file, since a pipe that nobody reads would fill; closed in __exit__
        self._process = subprocess.Popen([python, *worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        self.times: list[int] = []
        self.rounds = 0
        self.memory: int | None = None
        self._loaded: Loaded | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # a process that died has left a broken pipe
                if stream is not None:
                    stream.close()
        try:
            self._process.wait(timeout=0.0 if kind else 5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def start(self) -> Loaded:
        """Load the model and warm up. Raises AxforgeError when the engine cannot."""
        reply = self._ask(self.load)
        assert isinstance(reply, Loaded)
        self._loaded = reply
        return reply

    def run_round(self, seconds: float) -> None:
        """Run frames for so long and keep their times."""
        reply = self._ask(RunRound(seconds=seconds))
        assert isinstance(reply, RoundDone)
        self.times += reply.nanoseconds
        self.memory = reply.memory_bytes
        self.rounds += 1

    def _ask(self, request: Request) -> Reply:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise self._died()
        reply: Reply = msgspec.json.decode(line, type=Reply)
        if isinstance(reply, EngineFailed):
            raise AxforgeError(reply.what, where=reply.where, fix=reply.fix)
        return reply

    def _died(self) -> AxforgeError:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        fix = "It may have run out of memory." if status == -9 else ""
        return AxforgeError(f"the process of {self.name} {how}{': ' + lines[-1] if lines else ''}", where=self.load.file, fix=fix)

    def figures(self) -> EngineFigures:
        """What was measured."""
        loaded = self._loaded
        assert loaded is not None
        return EngineFigures(
            engine=self.name,
            version=loaded.version,
            file=self.load.file,
            threads=loaded.threads,
            code_path=loaded.code_path,
            features=loaded.features,
            load_ms=loaded.load_ns / 1e6,
            memory_bytes=self.memory,
            warm_up=loaded.warm_up,
            rounds=self.rounds,
            frames=len(self.times),
            latency=figures(self.times),
            frames_per_second=len(self.times) / (sum(self.times) / 1e9),
        )


def bench(file: Path, onnx: Path | None = None, *, threads: int = 0, seconds: float = 5.0, seed: int = 0) -> BenchReport:
    """Measure the compiled model `file` by the host engine, and the ONNX `onnx` by onnxruntime if it is given; or an ONNX alone.

    threads: of each engine, 0 for as many as this process may use. seconds: that each engine runs. The inputs are random, of `seed`.
    Raises AxforgeError when the first engine cannot run. What the second cannot is a note in the report.
    """
    threads = threads or available_cpus()
    names = {".onnx": ("onnxruntime", "onnx")}
    name, pipe = names.get(file.suffix, ("aipu-host", "aipu-host"))
    notes: list[str] = []
    with ExitStack() as stack:
        engines = [stack.enter_context(EngineProcess(name, Load(engine=pipe, file=str(file), threads=threads, seed=seed)))]
        loaded = engines[0].start()
        if onnx is not None and pipe != "onnx":
            load = Load(engine="onnx", file=str(onnx), threads=threads, seed=seed, shapes=loaded.shapes)
            other = stack.enter_context(EngineProcess("onnxruntime", load))
            try:
                other.start()
                engines.append(other)
            except AxforgeError as e:
                notes.append(f"onnxruntime was not measured: {e}")
        run_by_turns(engines, seconds)
        measured = tuple(engine.figures() for engine in engines)
    return BenchReport(
        model=str(file), seconds=seconds, seed=seed, computer=this_computer(), engines=measured, ratio=ratio(measured), notes=tuple(notes)
    )


def run_by_turns(engines: Sequence[EngineProcess], seconds: float) -> None:
    """Rounds of each engine by turns, until each has run for `seconds`. Which engine begins alternates too."""
    rounds = max(_LEAST_ROUNDS, ceil(seconds / _ROUND_SECONDS))
    for turn in range(rounds):
        for engine in engines if turn % 2 == 0 else engines[::-1]:
            engine.run_round(seconds / rounds)


def ratio(measured: Sequence[EngineFigures]) -> SpeedRatio | None:
    """How many times as fast as the second engine the first is; None when there is one."""
    if len(measured) < 2:
        return None
    ours, other = measured[0].latency, measured[1].latency
    names = {"engine": measured[0].engine, "other": measured[1].engine}
    return SpeedRatio(**names, medians=other.p50_ms / ours.p50_ms, minima=other.min_ms / ours.min_ms)


def find_model(path: Path) -> Path:
    """The `.axmodel`, bundle or `.onnx` that `path` means: the file itself, or the one compiled model in a folder. Raises AxforgeError."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise AxforgeError(
            "there is no such file", where=str(path), fix="Give an .axmodel, a bundle, an .onnx, or the folder of a compiled model."
        )
    if (path / FILE).is_file():
        return path / FILE
    found = sorted(path.glob(f"*/{FILE}")) or sorted(path.glob(f"*/*/{FILE}"))
    if len(found) == 1:
        return found[0]
    if found:
        fix = f"Give one of them: {', '.join(str(p.parent) for p in found[:8])}."
        raise AxforgeError(f"the folder has {len(found)} compiled models", where=str(path), fix=fix)
    raise AxforgeError(f"the folder has no {FILE}", where=str(path), fix="Compile the model first, or give another folder.")


def find_onnx(model: Path) -> Path | None:
    """The ONNX that `model` was compiled from, if the build folder has it: beside it, or where the stage `fetch` left it."""
    places = (model.with_suffix(".onnx"), model.parent.parent / "stages" / "fetch" / "model.onnx")
    return next((place for place in places if place != model and place.is_file()), None)


def available_cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def this_computer() -> Computer:
    """Where this runs."""
    return Computer(
        system=platform.system(), architecture=platform.machine(), cpu=_cpu(), cpus=available_cpus(), python=platform.python_version()
    )


def _cpu() -> str:
    """The CPU's name as the system gives it, '' when it does not."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith(("model name", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor()
