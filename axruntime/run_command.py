"""`axmodel run`: a compiled model on a source, wherever it was copied to. `doit infer` does more, and needs the project."""

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.files import slug
from axforge.axruntime.media.opening import default_suffix, names_file, open_sink, open_source
from axforge.axruntime.media.sink import Sink
from axforge.axruntime.media.sinks.json_document import result_document
from axforge.axruntime.media.source import Frame, FrameSource
from axforge.axruntime.model import Model
from axforge.axruntime.results.result import PipelineResult


class RunOptions(msgspec.Struct, frozen=True):
    """What to run on what. frames: at most so many; None for all. save_output: a picture, a video, a .json or a folder; None for nothing.

    json: print one JSON document a line for each frame, and not words. engine, threads: as `Model` takes them.
    """

    model: Path
    source: str
    frames: int | None = None
    save_output: Path | None = None
    json: bool = False
    engine: str = "aipu-host"
    threads: int = 0


def run(options: RunOptions, out: TextIO) -> int:
    """Print the result of each frame as it comes; returns how many there were. Raises AxforgeError."""
    source = open_source(options.source, frames=options.frames)
    count = 0
    with Model(options.model, threads=options.threads, engine=options.engine) as model, ExitStack() as stack:
        sinks = [stack.enter_context(sink) for sink in _sinks(options, source, model.name)]
        for flight in model.flights(source):
            if (frame := flight.frame) is None or (result := flight.result) is None:
                continue
            count += 1
            print(_json(frame, result) if options.json else _words(frame, result, alone=source.total == 1), file=out, flush=True)
            for sink in sinks:
                sink.add(frame, result)
        if not count:
            raise AxforgeError("the source gave no picture", where=options.source)
    for sink in sinks:
        if line := sink.report(str):
            print(line, file=sys.stderr if options.json else out)
    return count


def _sinks(options: RunOptions, source: FrameSource, name: str) -> list[Sink]:
    path = options.save_output
    if path is None:
        return []
    if not names_file(path):
        path = path / f"{slug(options.source)}{default_suffix(source)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    address = re.sub(r"//[^/@]*@", "//", options.source)  # a camera's password is not to be kept
    return [open_sink(path, source, {"model": name, "pipe": options.engine, "source": address})]


def _json(frame: Frame, result: PipelineResult) -> str:
    return msgspec.json.encode(result_document(frame, result)).decode()


def _words(frame: Frame, result: PipelineResult, *, alone: bool) -> str:
    """A line for each frame; of a single picture its table."""
    table = result.table()
    if not alone or not table.rows:
        return f"{frame.name}: {result.brief()}"
    lines = [table.head(), *table.texts()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
