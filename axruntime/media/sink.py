"""What a sink of results is, and the register of the kinds that there are. Each kind is one module in `sinks/`."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypeVar

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.source import Frame, FrameSource
from axforge.axruntime.results.result import PipelineResult


class SinkTarget(msgspec.Struct, frozen=True):
    """Where a sink writes to, of which frames, and what is known about the whole run."""

    path: Path
    frames: FrameSource
    header: dict[str, str] = {}


class Sink:
    """Takes results frame by frame. A context manager: what is not complete leaves no file.

    name: of what is written, for one line on the screen: "video".
    """

    name: ClassVar[str]

    def __init__(self, target: SinkTarget) -> None:
        self.target = target
        self.written: list[Path] = []

    @classmethod
    def takes(cls, frames: FrameSource) -> bool:
        """Whether results of such frames can be written by this sink at all; else pictures are written."""
        return True

    def add(self, frame: Frame, result: PipelineResult) -> None:
        """Take the result of one frame. Raises AxforgeError when it cannot be written."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write what is left to be written."""

    def abandon(self) -> None:
        """Leave no file that is not complete."""

    def report(self, shown: Callable[[Path], str]) -> str:
        """What was written, in one line; '' for nothing. shown: how a path is shown."""
        return f"{self.name}: {shown(self.written[0])}" if self.written else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()


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
