"""The bar of a compilation: `Compiling yolov5s-v7-coco for Metis... [████    ]  50% (0m 12s) quantize`."""

import threading
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Task as Bar
from rich.table import Column
from rich.text import Text

from axforge.tasks.project.progress import Channel

#: Share of a compilation that a stage usually takes, in percent.
SHARES = {"fetch": 3, "check": 8, "calibrate": 42, "quantize": 17, "optimize": 8, "tile": 12, "pack": 10}


class _Room:
    """How a line of the console is shared out: the percentage and the clock always fit, and titles are cut, not broken."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @property
    def blocks(self) -> int:
        """Blocks of the bar, 0 for no bar."""
        width = self.console.width
        return 24 if width >= 100 else 10 if width >= 70 else 0

    def texts(self, title: str) -> tuple[int, int]:
        """Characters for the title and for what is going on."""
        left = max(self.console.width - _FIXED - (self.blocks and self.blocks + 2), 2 * _LEAST_STAGE)
        title_room = min(len(title), left - _LEAST_STAGE)
        return title_room, left - title_room


#: Spinner, percentage, clock, and the spaces between columns.
_FIXED = 20
_LEAST_STAGE = 10


class _Title(ProgressColumn):
    """Compiling yolov5s-v7-coco for Metis..."""

    def __init__(self, room: _Room) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self.room = room

    def render(self, bar: Bar) -> Text:
        """The column of one bar."""
        return _cut(bar.description, self.room.texts(bar.description)[0])


class _Stage(ProgressColumn):
    """quantize: layer 3 of 40"""

    def __init__(self, room: _Room) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self.room = room

    def render(self, bar: Bar) -> Text:
        """The column of one bar."""
        text = _cut(str(bar.fields["stage"]), self.room.texts(bar.description)[1])
        text.stylize("dim")
        return text


def _cut(text: str, room: int) -> Text:
    return Text(text if len(text) <= room else f"{text[: max(room - 1, 0)]}…")


class _Blocks(ProgressColumn):
    """[████    ]"""

    def __init__(self, room: _Room) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self.room = room

    def render(self, bar: Bar) -> Text:
        """The column of one bar."""
        blocks = self.room.blocks
        full = round(blocks * bar.percentage / 100)
        return Text.assemble("[", ("█" * full, "green"), " " * (blocks - full), "]") if blocks else Text()


class _Clock(ProgressColumn):
    """(0m 12s)"""

    def render(self, bar: Bar) -> Text:
        """The time since the bar began."""
        seconds = int((bar.finished_time if bar.finished else bar.elapsed) or 0)
        return Text(f"({seconds // 60}m {seconds % 60:02d}s)")


@dataclass
class _Model:
    """One line: finished stages count in full, running ones by what they report."""

    bar: TaskID
    finished: set[str] = field(default_factory=set)
    running: dict[str, float] = field(default_factory=dict)

    def percent(self) -> float:
        """How much of the compilation is done, 0 to 100."""
        return sum(SHARES[s] for s in self.finished) + sum(SHARES[s] * part for s, part in self.running.items() if s not in self.finished)


class Bars:
    """One bar a model, drawn by a thread that starts with the first stage (doit forks its workers before that)."""

    def __init__(self, stream: TextIO, channel: Channel) -> None:
        self._console = Console(file=stream)
        self._progress: Progress | None = None
        self._models: dict[str, _Model] = {}
        self._skipped: dict[str, set[str]] = {}
        self._ended: set[str] = set()
        self._channel, self._queue = channel, channel.open(self.update)
        self._pump: threading.Thread | None = None

    def start(self, model: str, stage: str) -> None:
        """Show that a stage begins."""
        if self._progress is None:
            self._begin()
        assert self._progress is not None
        if model not in self._models:
            bar = self._progress.add_task(f"Compiling {model} for Metis...", total=100, stage=stage)
            self._models[model] = _Model(bar, self._skipped.pop(model, set()))
        self._models[model].running.setdefault(stage, 0.0)
        self._show(model, stage)

    def update(self, model: str, stage: str, done: int, total: int, note: str) -> None:
        """A stage reports, or (without a model) somebody has a sentence for the user."""
        if not model:
            self._console.print(note, markup=False, highlight=False, soft_wrap=True)  # above the bars
            return
        if model not in self._models and model not in self._ended:
            self.start(model, stage)  # on another machine, before its turn here
        if self._progress is not None and (line := self._models.get(model)) is not None:
            line.running[stage] = done / total if total else 0.0
            self._show(model, f"{stage}: {note}" if note else stage)

    def finish(self, model: str, stage: str) -> None:
        """A stage is done, or had nothing to do."""
        line = self._models.get(model)
        if line is None:
            self._skipped.setdefault(model, set()).add(stage)
            return
        line.finished.add(stage)
        line.running.pop(stage, None)
        self._show(model, "" if len(line.finished) == len(SHARES) else stage)

    def done(self, model: str) -> None:
        """A model is finished or given up; after the last one the bars stop, and the screen is free for others."""
        self._skipped.pop(model, None)
        self._ended.add(model)
        line = self._models.pop(model, None)
        if line is not None and self._progress is not None:
            self._progress.stop_task(line.bar)
            if not self._models:
                self._end()

    def close(self) -> None:
        """Stop drawing for good."""
        self._end()
        if self._pump is not None:
            self._queue.put(None)
            self._pump.join()
        self._channel.close()

    def _begin(self) -> None:
        room = _Room(self._console)
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            _Title(room),
            _Blocks(room),
            TextColumn("{task.percentage:>3.0f}%", table_column=Column(no_wrap=True)),
            _Clock(table_column=Column(min_width=8, no_wrap=True)),
            _Stage(room),
            console=self._console,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._progress.start()
        if self._pump is None:
            self._pump = threading.Thread(target=self._drain, daemon=True)
            self._pump.start()

    def _end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._models.clear()

    def _drain(self) -> None:
        while (message := self._queue.get()) is not None:
            self.update(*message)

    def _show(self, model: str, stage: str) -> None:
        assert self._progress is not None
        line = self._models[model]
        self._progress.update(line.bar, completed=line.percent(), stage=stage)
