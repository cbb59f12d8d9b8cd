"""Running a model on a source: pictures and videos in, a table, annotated pictures and a JSON of full precision out."""

import re
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from axforge.axcompiler.errors import AxforgeError
from axforge.cache.errors import masked
from axforge.tasks.compiling import shown
from axforge.tasks.project.engines import open_for
from axforge.tasks.project.plan import Plan
from axforge.tasks.screen.display import counting, table

if TYPE_CHECKING:
    from axforge.axruntime.evaluate.datasets import Dataset
    from axforge.axruntime.media.sink import Sink
    from axforge.axruntime.media.source import Frame, FrameSource
    from axforge.axruntime.results.result import PipelineResult

#: Rows of a table on the screen; the JSON has all.
ROWS = 20
#: Results kept for the table, which shows counts by then: an endless source must not fill the memory.
KEPT = 5000


def run(plan: Plan, text: str, pipe: str) -> dict[str, object]:
    """Run `text`, a source as it was typed, through the model on the engine `pipe`. Raises AxforgeError."""
    from axforge.axruntime.media.opening import open_source
    from axforge.axruntime.pipeline.pipeline import Pipeline

    def dataset(split: str | None) -> "Dataset":
        from axforge.axruntime.evaluate.datasets import open_dataset

        return open_dataset(plan.descriptor, plan.settings.data_root, split)

    source = open_source(where(text, plan), frames=plan.options.frames or None, dataset=dataset)
    print("Running pipeline...", flush=True)
    engine = open_for(plan, pipe)
    try:
        pipeline = Pipeline(plan.descriptor, engine)
        output = RunOutput(plan, pipe, source, text)
        start = time.perf_counter()
        with output, counting(f"{plan.model.name} on {pipe}") as progress:
            for done, frame in enumerate(source, start=1):
                output.add(frame, pipeline.run(frame.image))
                progress(done, source.total or 0, "")
            if not output.count:
                raise AxforgeError("The source gave no picture.", where=text)
        seconds = time.perf_counter() - start
    finally:
        engine.close()
    return _report(output, pipeline.engine_seconds, seconds)


def where(text: str, plan: Plan) -> str:
    """The source, with a relative path made absolute: it is relative to where it was typed."""
    path = plan.settings.typed(text)
    kind = re.match(r"^[a-z]{2,}:", text) or text == "dataset"
    return text if kind and not path.exists() else str(path)


@dataclass
class RunOutput:
    """Where results of one run go: into the file or the folder that was named, or the model's own, and into a JSON beside it."""

    plan: Plan
    pipe: str
    source: "FrameSource"
    text: str
    count: int = 0
    results: "list[tuple[str, PipelineResult]]" = field(default_factory=list)

    def __post_init__(self) -> None:
        from axforge.axruntime.media.files import slug
        from axforge.axruntime.media.opening import default_suffix, names_file, open_sink

        asked = self.plan.settings.typed(self.plan.options.save_output) if self.plan.options.save_output else None
        if asked is not None and names_file(asked):
            path = asked
        else:
            path = (asked or self.plan.results) / f"{slug(where(self.text, self.plan))}{default_suffix(self.source)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"model": self.plan.model.name, "pipe": self.pipe, "source": masked(self.text)}
        self.json = path.parent / f"{path.stem}.json"
        self.sinks: list[Sink] = [open_sink(file, self.source, header) for file in dict.fromkeys((path, self.json))]
        self._stack = ExitStack()

    def __enter__(self) -> "RunOutput":
        for sink in self.sinks:
            self._stack.enter_context(sink)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, frame: "Frame", result: "PipelineResult") -> None:
        """Give a result to the sinks, and keep it for the table."""
        self.count += 1
        self.results.append((frame.name, result))
        del self.results[:-KEPT]
        for sink in self.sinks:
            sink.add(frame, result)


def _report(output: RunOutput, engine_seconds: float, seconds: float) -> dict[str, object]:
    """Print the table, the speed and where everything was written; returns what a script may want to know."""
    title, head, rows = rows_of(output)
    if rows:
        table(title, head, rows[:ROWS])
    else:
        print(f"{title}: nothing found")
    if len(rows) > ROWS:
        print(f"  … and {len(rows) - ROWS} more, in the JSON")
    each = 1000 * engine_seconds / output.count
    frames = f"{output.count} frame{'s' * (output.count > 1)}"
    lines = [f"{frames} on {output.pipe}: {each:.1f} ms a frame in the engine, {output.count / seconds:.1f} frames/s"]
    lines += [line for sink in output.sinks if (line := sink.report(lambda path: shown(path, output.plan)))]
    print("\n".join(lines), flush=True)
    return {"json": str(output.json), "frames": output.count}


def rows_of(output: RunOutput) -> tuple[str, list[str], list[list[str]]]:
    """Title, head and rows of the table: of one picture its results, of many a line each, of a video what was seen how often."""
    name = masked(output.text)
    if len(output.results) == 1:
        found = output.results[0][1].table()
        return name, found.head(), found.texts()
    if output.source.video:
        seen: Counter[str] = Counter()
        frames: Counter[str] = Counter()
        for _, result in output.results:
            labels = result.seen()
            seen.update(labels)
            frames.update(set(labels))
        total = len(output.results)
        rows = [[label, str(frames[label]), f"{n / total:.2f}"] for label, n in seen.most_common()]
        return f"{name}, {total} frames", ["class", "frames", "mean count"], rows
    return name, ["picture", "result"], [[frame, result.brief()] for frame, result in output.results]
