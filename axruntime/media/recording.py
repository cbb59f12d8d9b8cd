"""Writing down a run: its files, and what becomes of them when it breaks off."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.files import slug
from axforge.axruntime.media.naming import document_beside, free_stem, refuse_source
from axforge.axruntime.media.opening import default_suffix, names_file, open_sink
from axforge.axruntime.media.sink import Sink
from axforge.axruntime.media.source import Frame, FrameSource, Skipped
from axforge.axruntime.media.stopping import StopGuard
from axforge.axruntime.results.result import PipelineResult


def result_files(asked: Path | None, folder: Path, source: FrameSource, header: Mapping[str, str]) -> tuple[Path, ...]:
    """Where the results of a run go: into `asked`, a file or a folder, else into `folder`; and the JSON beside it.

    header: says which run it is ("model", "pipe", "source", and "origin": the absolute path of a local source). In a folder, files of
    another run stay, and ours get another name. Raises AxforgeError for a file that cannot be written or is the source itself.
    """
    many = not source.video and source.total != 1
    origin = header.get("origin")
    if asked is not None and names_file(asked):
        if origin:
            refuse_source(asked, Path(origin), many=many and asked.suffix not in (".json", ".jsonl", ".csv"))
        return (asked,) if asked.suffix in (".json", ".jsonl") else (asked, document_beside(asked, header))
    folder = asked or folder
    suffix = default_suffix(source)
    stem = free_stem(folder, slug(origin or header["source"]), suffix, header)
    return (folder / f"{stem}{suffix}", folder / f"{stem}.json")


class Recording:
    """A context manager that gives results to sinks, one file each, and finishes the files when the run ends or breaks off.

    Ctrl-C and SIGTERM raise `Stopped` in it, between two results and not in one (see `guard`). count: results that are in all files.
    """

    def __init__(self, files: tuple[Path, ...], source: FrameSource, header: Mapping[str, str]) -> None:
        self.files, self.count, self.skipped = files, 0, 0
        self.guard = StopGuard()
        self._stack = ExitStack()
        try:
            files[0].parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise AxforgeError(f"the folder cannot be made: {e.strerror}", where=str(files[0].parent), fix="Check the path.") from e
        self.sinks: list[Sink] = [open_sink(file, source, header) for file in files]

    @property
    def document(self) -> Path:
        """The JSON of all results."""
        return self.files[-1]

    def add(self, frame: Frame, result: PipelineResult) -> None:
        """Write the result of one frame. Raises AxforgeError when that is not possible."""
        with self.guard.held():
            for sink in self.sinks:  # the JSON comes last: it lists nothing that is not in the picture or video
                sink.add(frame, result)
            self.count += 1

    def skip(self, skipped: Skipped) -> None:
        """Note a picture that could not be used."""
        self.skipped += 1
        for sink in self.sinks:
            sink.skip(skipped)

    def report(self, shown: Callable[[Path], str]) -> list[str]:
        """A line for each file or folder that was written. shown: how a path is shown."""
        return [line for sink in self.sinks if (line := sink.report(shown))]

    def __enter__(self) -> Self:
        self.guard.__enter__()
        for sink in self.sinks:
            self._stack.enter_context(sink)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with self.guard.held():
                self._stack.__exit__(kind, error, trace)
        finally:
            self.guard.__exit__(kind, error, trace)
