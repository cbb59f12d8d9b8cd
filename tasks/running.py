"""Running a model on a source: pictures and videos in, a table, annotated pictures and a JSON of full precision out."""

import re
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.source import Skipped
from axforge.axruntime.output import unread_output_discarded
from axforge.cache.errors import masked
from axforge.tasks.compiling import shown
from axforge.tasks.project.engines import open_for, pipeline_for
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.screen.display import counting, table
from axforge.tasks.screen.tally import Stopwatch, Tally

if TYPE_CHECKING:
    from axforge.axruntime.engines import Engine
    from axforge.axruntime.evaluate.datasets import Dataset
    from axforge.axruntime.media.source import FrameSource
    from axforge.axruntime.streaming.flow import Flight
    from axforge.axruntime.streaming.timing import TimingTable

#: Pictures that could not be used and are named on the screen; the JSON names all.
_NAMED = 10


class StopStatus(SystemExit):
    """Ends the program with a status; also from a worker process of doit, which hands over the text of the exception only."""

    def __init__(self, status: int | str) -> None:
        super().__init__(int(status))


def run(plan: BuildPlan, text: str, pipe: str) -> dict[str, object]:
    """Run `text`, a source as it was typed, through the model on the engine `pipe`. Raises AxforgeError.

    When Ctrl-C or SIGTERM ends it, what was done until then is kept, and the program ends with status 130 or 143.
    """
    from axforge.axruntime.media.stopping import Stopped  # only a run needs it

    with unread_output_discarded():
        print("Running pipeline...", flush=True)
    current = Run(plan, text, pipe)
    engine = open_for(plan, pipe)
    stopped: Stopped | None = None
    try:
        current.through(engine)
    except Stopped as e:
        stopped = e
    except BaseException:
        current.report()
        raise
    finally:
        engine.close()
    current.report()
    if stopped is not None:
        print(f"\nStopped by {stopped.name} after {_frames(current.recording.count)}.", file=sys.stderr, flush=True)
        raise StopStatus(stopped.status)
    return {"json": str(current.recording.document), "frames": current.recording.count, "skipped": current.recording.skipped}


def where(text: str, plan: BuildPlan) -> str:
    """The source, with a relative path made absolute: it is relative to where it was typed."""
    path = plan.settings.typed(text)
    kind = re.match(r"^[a-z]{2,}:", text) or text == "dataset"
    return text if kind and not path.exists() else str(path)


def check(plan: BuildPlan, text: str) -> None:
    """Raises AxforgeError for a source that is not there, or an output that cannot be written: before anybody waits for a compilation."""
    from axforge.axruntime.media.opening import names_file, open_source  # only a run needs them

    if plan.options.save_output:
        names_file(plan.settings.typed(plan.options.save_output))
    if text.split(":")[0] != "dataset":  # needs the descriptor, and is read whole
        open_source(where(text, plan), frames=plan.options.frames or None)


class Run:
    """One source through one model: what was typed, what is counted, and where it is written."""

    def __init__(self, plan: BuildPlan, text: str, pipe: str) -> None:
        from axforge.axruntime.media.opening import open_source  # loads NumPy
        from axforge.axruntime.media.recording import Recording, result_files
        from axforge.axruntime.streaming.flow import Intake
        from axforge.axruntime.streaming.timing import StreamTiming

        self.plan, self.text, self.pipe = plan, text, pipe
        address = where(text, plan)
        self.intake, self.timing = Intake(), StreamTiming()
        skip = None if plan.options.strict else self.intake.skip
        self.source: FrameSource = open_source(address, frames=plan.options.frames or None, dataset=self._dataset, skip=skip)
        header = {"model": plan.model.name, "pipe": pipe, "source": masked(text)}
        if plan.settings.typed(text).exists() or address != text:
            header["origin"] = address
        asked = plan.settings.typed(plan.options.save_output) if plan.options.save_output else None
        self.recording: Recording = Recording(result_files(asked, plan.results, self.source, header), self.source, header)
        self.tally = Tally(masked(text), video=self.source.video)
        self.watch = Stopwatch()
        self._first_reason = ""

    def through(self, engine: "Engine") -> None:
        """Run all frames. Raises AxforgeError, and `Stopped` when a signal asks for it; the recording is whole then."""
        from axforge.axruntime.pipeline.candidates import StreamMemory
        from axforge.axruntime.streaming.flow import FrameFlow

        lenient = not (self.plan.options.strict or self.source.video or self.source.total == 1)
        with ExitStack() as opened, self.recording, counting(f"{self.plan.model.name} on {self.pipe}") as progress:
            pipeline = pipeline_for(self.plan, engine, self.pipe, opened, StreamMemory())
            with FrameFlow(pipeline, self.intake.flights(self.source), lenient=lenient) as flow:
                for flight in flow:
                    self._take(flight)
                    progress(self.recording.count + self.recording.skipped, self.source.total or 0, "")
            if not self.recording.count:
                none = (
                    f"None of {self.recording.skipped} pictures can be used." if self.recording.skipped else "The source gave no picture."
                )
                raise AxforgeError(none, where=masked(self.text), fix=self._first_reason)

    def _take(self, flight: "Flight") -> None:
        """Write a result and count it (both or neither), or note that there is none."""
        if flight.skipped is not None:
            self._skip(flight.skipped)
        elif flight.frame is not None and flight.result is not None:
            start = time.perf_counter()
            with self.recording.guard.held():
                self.recording.add(flight.frame, flight.result)
                self.tally.add(flight.frame, flight.result)
                self.watch.lap(flight.engine_seconds)
                self.timing.add(flight, time.perf_counter() - start)

    def report(self) -> None:
        """Print the table, the speed and where everything was written."""
        if not self.recording.count:
            return
        title, head, rows, total = self.tally.table()
        lines = [f"  … and {total - len(rows)} more, in the JSON"] if total > len(rows) else []
        lines.append(f"{_frames(self.recording.count)} on {self.pipe}: {self.watch.sentence()}")
        if self.recording.skipped:
            lines.append(f"{self.recording.skipped} skipped: they cannot be used (--strict stops at the first)")
        lines += self.recording.report(lambda path: shown(path, self.plan))
        with unread_output_discarded():
            if rows:
                table(title, head, rows)
            else:
                print(f"{title}: nothing found")
            print("\n".join(lines), flush=True)
            for timing in self._timings():
                table(timing.title, timing.head, timing.rows)
                print(timing.sentence, flush=True)

    def _timings(self) -> "list[TimingTable]":
        """The tables that --show-stats and --show-stream-timing ask for."""
        options = self.plan.options
        wanted = ((options.show_stats, self.timing.steps), (options.show_stream_timing, self.timing.delays))
        return [make() for asked, make in wanted if asked]

    def _skip(self, skipped: Skipped) -> None:
        self.recording.skip(skipped)
        self._first_reason = self._first_reason or f"The first, {skipped.name}: {skipped.reason}."
        if self.recording.skipped <= _NAMED:
            print(f"WARNING: {skipped.name} is skipped: {skipped.reason}", file=sys.stderr, flush=True)
        elif self.recording.skipped == _NAMED + 1:
            print("WARNING: more pictures are skipped; the JSON names them all.", file=sys.stderr, flush=True)

    def _dataset(self, split: str | None) -> "Dataset":
        from axforge.axruntime.evaluate.datasets import open_dataset  # only for `dataset`

        return open_dataset(self.plan.descriptor, self.plan.settings.data_root, split)


def _frames(count: int) -> str:
    return f"{count} frame{'s' * (count != 1)}"
