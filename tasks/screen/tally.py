"""What the screen says about a run: counted while the frames come, so that nothing but counts and the first rows is kept."""

import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from axforge.axruntime.media.source import Frame
    from axforge.axruntime.results.result import PipelineResult

#: Rows of a table on the screen; the JSON has all.
ROWS = 20


class Tally:
    """Of one picture its table, of many a line each, of a video what was seen how often. rows: the first ROWS; total: how many in all."""

    def __init__(self, name: str, *, video: bool) -> None:
        self.name, self._video = name, video
        self.count = 0
        self._seen: Counter[str] = Counter()
        self._frames: Counter[str] = Counter()
        self._briefs: list[list[str]] = []
        self._first: PipelineResult | None = None

    def add(self, frame: "Frame", result: "PipelineResult") -> None:
        """Count one result."""
        self.count += 1
        if self._video:
            labels = result.seen()
            self._seen.update(labels)
            self._frames.update(set(labels))
        elif len(self._briefs) < ROWS:
            self._briefs.append([frame.name, result.brief()])
        self._first = result if self.count == 1 else None

    def table(self) -> tuple[str, list[str], list[list[str]], int]:
        """Title, head, the first rows, and how many there are in all."""
        if self._first is not None:
            found = self._first.table()
            return self.name, found.head(), found.texts()[:ROWS], len(found.rows)
        if self._video:
            rows = [[label, str(self._frames[label]), f"{n / self.count:.2f}"] for label, n in self._seen.most_common()]
            return f"{self.name}, {self.count} frames", ["class", "frames", "mean count"], rows[:ROWS], len(rows)
        return self.name, ["picture", "result"], self._briefs, self.count


class Stopwatch:
    """Speed of a run without its first frame, in which engines compile their code, read weights and fill caches."""

    def __init__(self) -> None:
        self._start = self._end = time.perf_counter()
        self._frames = 0
        self._first_engine = self._engine = 0.0

    def lap(self, engine_seconds: float) -> None:
        """A frame is done. engine_seconds: of all frames until now."""
        self._end = time.perf_counter()
        self._frames += 1
        self._engine = engine_seconds
        if self._frames == 1:
            self._start, self._first_engine = self._end, engine_seconds

    def sentence(self) -> str:
        """The speed, and what it includes."""
        first = f"{1000 * self._first_engine:.1f} ms"
        if self._frames == 1:
            return f"{first} in the engine, its warm-up included"
        frames, seconds = self._frames - 1, max(self._end - self._start, 1e-9)
        each = 1000 * (self._engine - self._first_engine) / frames
        speed = f"{each:.1f} ms a frame in the engine, {frames / seconds:.1f} frames/s with reading and writing"
        return f"{speed} (without the first frame, which warms up: {first})"
