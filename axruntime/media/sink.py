"""What a sink of results is, and the register of the kinds that there are. Each kind is one module in `sinks/`."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypeVar

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.source import Frame, FrameSource, Skipped
from axforge.axruntime.results.result import PipelineResult


class SinkTarget(msgspec.Struct, frozen=True):
    """Where a sink writes to, of which frames, and what is known about the whole run."""

    path: Path
    frames: FrameSource
    header: dict[str, str] = {}


class Sink:
    """Takes results frame by frame and keeps none of them. A context manager: what was taken when a run breaks off is a whole file.

    A run that breaks off before its first result leaves no file. name: of what is written, for one line on the screen: "video".
    written: the files (or the folder) that are whole. count: results taken.
    """

    name: ClassVar[str]

    def __init__(self, target: SinkTarget) -> None:
        self.target = target
        self.written: list[Path] = []
        self.count = 0

    @classmethod
    def takes(cls, frames: FrameSource) -> bool:
        """Whether results of such frames can be written by this sink at all; else pictures are written."""
        return True

    def add(self, frame: Frame, result: PipelineResult) -> None:
        """Take the result of one frame. Raises AxforgeError when it cannot be written."""
        self.write(frame, result)
        self.count += 1

    def write(self, frame: Frame, result: PipelineResult) -> None:
        """Write the result of one frame. Raises AxforgeError, and then what was written before stays whole."""
        raise NotImplementedError

    def skip(self, skipped: Skipped) -> None:
        """Note a picture that could not be used."""

    def finish(self, stopped: str = "") -> None:
        """Make what was written a whole file. stopped: why the run broke off; '' when it came to its end. Raises AxforgeError."""

    def abandon(self) -> None:
        """Leave no file."""

    def report(self, shown: Callable[[Path], str]) -> str:
        """What was written, in one line; '' for nothing. shown: how a path is shown."""
        return f"{self.name}: {shown(self.written[0])}" if self.written else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        elif self.count:
            with contextlib.suppress(AxforgeError):  # the first error says more
                self.finish(_reason(error))
        else:
            self.abandon()


def _reason(error: BaseException | None) -> str:
    """Why a run broke off, on one line and without paths."""
    if isinstance(error, AxforgeError):
        return error.what
    if isinstance(error, KeyboardInterrupt):
        return f"stopped by {error}" if str(error) else "stopped by Ctrl-C"
    return type(error).__name__


SinkT = TypeVar("SinkT", bound=type[Sink])
SUFFIXES: dict[str, type[Sink]] = {}


def register(*suffixes: str) -> Callable[[SinkT], SinkT]:
    """Make a sink known (a decorator) as the one that writes files with these suffixes."""

    def keep(sink: SinkT) -> SinkT:
        for suffix in suffixes:
            if SUFFIXES.setdefault(suffix, sink) is not sink:
                raise TypeError(f"{sink.__module__}: '{suffix}' is written by another sink already: {SUFFIXES[suffix].__module__}")
        return sink

    return keep


def unwritable(path: Path, error: OSError) -> AxforgeError:
    """The error for a file that the system does not let us write."""
    return AxforgeError(f"the file cannot be written: {error.strerror}", where=str(path), fix="Check the folder and the space on the disk.")
