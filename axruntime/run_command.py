"""`axmodel run`: a compiled model on a source, wherever it was copied to. `doit infer` does more, and needs the project."""

import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.opening import open_source
from axforge.axruntime.media.recording import Recording, result_files
from axforge.axruntime.media.sinks.json_document import result_document
from axforge.axruntime.media.source import Frame, FrameSource, Skipped
from axforge.axruntime.media.stopping import StopGuard, Stopped
from axforge.axruntime.model import Model
from axforge.axruntime.results.result import PipelineResult
from axforge.axruntime.streaming.flow import Intake

if TYPE_CHECKING:
    from axforge.axruntime.streaming.flow import Flight


class RunOptions(msgspec.Struct, frozen=True):
    """What to run on what. frames: at most so many; None for all. save_output: a picture, a video, a .json or a folder; None for nothing.

    json: print one JSON document a line for each frame, and not words. strict: stop at a picture that cannot be used, instead of
    skipping it. engine, threads: as `Model` takes them.
    """

    model: Path
    source: str
    frames: int | None = None
    save_output: Path | None = None
    json: bool = False
    strict: bool = False
    engine: str = "aipu-host"
    threads: int = 0


def run(options: RunOptions, out: TextIO) -> int:
    """Print the result of each frame as it comes; returns the status that the program ends with. Raises AxforgeError.

    Ctrl-C and SIGTERM end it between two frames, with status 130 or 143: what was written until then is whole.
    """
    intake = Intake()
    source = open_source(options.source, frames=options.frames, skip=None if options.strict else intake.skip)
    with Model(options.model, threads=options.threads, engine=options.engine) as model:
        recording = _recording(options, source, model.name)
        count, status = 0, 0
        flights = model.flights(source, intake, lenient=not (options.strict or source.video or source.total == 1))
        try:
            with recording or StopGuard():
                for frame, result in _usable(flights, recording):
                    with recording.guard.held() if recording else nullcontext():
                        words = _json(frame, result) if options.json else _words(frame, result, alone=source.total == 1)
                        print(words, file=out, flush=True)
                        if recording:
                            recording.add(frame, result)
                        count += 1
        except Stopped as e:
            status = e.status
            print(f"Stopped by {e.name} after {count} frame{'s' * (count != 1)}.", file=sys.stderr, flush=True)
        finally:
            for line in recording.report(str) if recording and count else []:
                print(line, file=sys.stderr if options.json else out)
    if not count and not status:
        raise AxforgeError("the source gave no picture that can be used", where=options.source)
    return status


def _usable(flights: "Iterator[Flight]", recording: Recording | None) -> Iterator[tuple[Frame, PipelineResult]]:
    """The frames that have a result; others are named and noted."""
    for flight in flights:
        if flight.skipped is not None:
            _named(flight.skipped)
            if recording:
                recording.skip(flight.skipped)
        elif flight.frame is not None and flight.result is not None:
            yield flight.frame, flight.result


def _named(skipped: Skipped) -> None:
    print(f"WARNING: {skipped.name} is skipped: {skipped.reason}", file=sys.stderr, flush=True)


def _recording(options: RunOptions, source: FrameSource, name: str) -> Recording | None:
    if options.save_output is None:
        return None
    address = re.sub(r"//[^/@]*@", "//", options.source)  # a camera's password is not to be kept
    header = {"model": name, "pipe": options.engine, "source": address}
    if Path(options.source).exists():
        header["origin"] = str(Path(options.source).resolve())
    return Recording(result_files(options.save_output, options.save_output, source, header), source, header)


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
