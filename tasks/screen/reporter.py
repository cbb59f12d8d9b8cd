"""What a user sees while tasks run: a bar for each model on a terminal, a line for each event elsewhere, one sentence for a mistake."""

import sys
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from doit.exceptions import BaseFail, TaskFailed, UnmetDependency
from doit.reporter import ConsoleReporter

from axforge.axcompiler.stages import STAGES
from axforge.axruntime.output import unread_output_discarded
from axforge.cache.errors import masked
from axforge.tasks.project.command_line import decoded
from axforge.tasks.project.doit_state import DoitTask, TaskMeta
from axforge.tasks.project.settings import PROJECT
from axforge.tasks.screen.display import drawable

if TYPE_CHECKING:
    from axforge.tasks.screen.bars import Bars  # only a terminal needs rich

HOW = {"ran": "ran", "restored": "restored from the cache"}


class Reporter(ConsoleReporter):  # type: ignore[misc]
    """doit's reporter for axforge."""

    desc = "axforge: a bar for each model on a terminal, a line for each event elsewhere"

    def __init__(self, outstream: TextIO, options: dict[str, object]) -> None:
        outstream = outstream or sys.stdout  # None when the shell had closed it
        super().__init__(outstream, options)
        self.stream = outstream
        self.bars: Bars | None = None
        self.counts: dict[str, Counter[str]] = {}  # by stage, what became of it
        self.lines: list[str] = []
        self.kinds: set[str] = set()

    def write(self, text: str) -> None:
        """Show a text; a build goes on when nobody reads (`| head`)."""
        with unread_output_discarded():
            self.stream.write(text)
            self.stream.flush()

    def initialize(self, tasks: dict[str, DoitTask], selected_tasks: list[str]) -> None:
        """Called before anything runs and before workers are forked; announces the stages to their executors."""
        if any(_meta(task).get("announce") for task in tasks.values()):
            for name in _needed(tasks, selected_tasks):
                if announce := _meta(tasks[name]).get("announce"):
                    announce()

    def get_status(self, task: DoitTask) -> None:
        """Called by doit before it decides whether a task must run; opens the bars before doit forks its workers."""
        if self.bars is None and _stage(task) and drawable(self.stream):
            from axforge.tasks.screen.bars import Bars  # only a terminal needs rich

            self.bars = Bars(self.stream, PROJECT.channel)  # makes its queue, draws nothing yet

    def execute_task(self, task: DoitTask) -> None:
        """Show that a task begins."""
        if not task.actions:
            return
        model, stage = _model(task), _stage(task)
        if stage:
            if self.bars is not None:
                self.bars.start(model, stage)
        elif self.bars is not None and _meta(task).get("prints"):
            self.bars.done(model)

    def add_success(self, task: DoitTask) -> None:
        """Show that a task succeeded."""
        if not task.actions:
            return
        how = str(task.values.get("how", ""))
        if _stage(task):
            self._count(task, how)
            took = f" ({task.values.get('seconds', 0):.1f} s)" if how == "ran" else ""
            there = f" on {task.values['worker']}" if task.values.get("worker") else ""
            self._event(task, f"{HOW.get(how, how)}{there}{took}", task.values.get("reasons", []))
        if _meta(task).get("finishes"):
            self._finished(task)

    def skip_uptodate(self, task: DoitTask) -> None:
        """Show that a task had nothing to do."""
        if _stage(task):
            self._count(task, "up to date")
            if _meta(task).get("explain"):
                self._event(task, "up to date", [])
            elif self.bars is not None:
                self.bars.finish(_model(task), _stage(task))
        if _meta(task).get("finishes"):
            self._finished(task)

    def skip_ignore(self, task: DoitTask) -> None:
        """Show that a task is one that the user excluded with `doit ignore`."""
        self.write(masked(f"{decoded(task.name)}: ignored (doit forget {task.name} ends that)\n"))

    def add_failure(self, task: DoitTask, fail: BaseFail) -> None:
        """Show that a task failed: the sentence of a user's mistake, or doit's traceback."""
        if self.bars is not None:
            self.bars.done(_model(task))
        self.kinds.add("unmet" if isinstance(fail, UnmetDependency) else "mistake" if isinstance(fail, TaskFailed) else "bug")
        if not fail.report:
            return
        if isinstance(fail, UnmetDependency):
            if not _model(task):  # else the failed stage of its model has been shown
                self.write(masked(f"{decoded(task.name)}: not done, because it needs {fail.message}\n"))
        elif isinstance(fail, TaskFailed) and not fail.traceback:
            self._error(f"ERROR in {decoded(task.name)}\n{fail.message}")
        else:
            self._error(f"ERROR in {decoded(task.name)}\n{fail.get_msg()}")

    def cleanup_error(self, exception: BaseFail) -> None:
        """Show that the teardown of a task failed."""
        print(exception.get_msg(), file=sys.stderr)

    def complete_run(self) -> None:
        """Called when all tasks are done or were given up; closes the bars."""
        if self.bars is not None:
            self.bars.close()
            self.bars = None
        for line in self.lines:
            self.write(line + "\n")
        if hits := hit_line(self.counts):
            self.write(hits + "\n")
        for message in self.runtime_errors:
            print(masked(f"ERROR: {message}"), file=sys.stderr)
        if self.kinds == {"unmet", "mistake"}:
            raise SystemExit(1)  # doit would call it 2, a bug, because a group waited for what failed

    def _count(self, task: DoitTask, how: str) -> None:
        self.counts.setdefault(_stage(task), Counter())[how] += 1

    def _error(self, text: str) -> None:
        with unread_output_discarded():
            self.stream.flush()
        if self.bars is not None and sys.stderr.isatty():
            self.bars.update("", "", 0, 0, masked(text))  # else the bars of other models would be drawn over it
        else:
            print(masked(text), file=sys.stderr)

    def _event(self, task: DoitTask, text: str, reasons: list[str]) -> None:
        shown = reasons if _meta(task).get("explain") else []
        line = f"{task.name}: {text}" + "".join(f"\n    {reason}" for reason in shown)
        if self.bars is not None:
            self.bars.finish(_model(task), _stage(task))
            if _meta(task).get("explain"):
                self.lines.append(line)
        else:
            self.write(line + "\n")

    def _finished(self, task: DoitTask) -> None:
        if self.bars is not None:
            self.bars.done(_model(task))
        remark = task.values.get("remark") or _meta(task).get("remark")
        line = f"{_model(task)}: {_meta(task)['finishes']}" + (f" ({remark})" if remark else "")
        if self.bars is not None:
            self.bars.update("", "", 0, 0, line)
        else:
            self.write(line + "\n")


def hit_line(counts: Mapping[str, Mapping[str, int]]) -> str:
    """What the cache saved, stage by stage, as one line; '' if nothing was asked of it. counts: by stage, then outcome."""
    asked = {stage.name: counts[stage.name] for stage in STAGES if stage.name in counts}
    hits = {stage: of.get("restored", 0) for stage, of in asked.items()}
    total = {stage: hits[stage] + of.get("ran", 0) for stage, of in asked.items()}
    if not any(total.values()):
        return ""
    each = ", ".join(f"{stage} {hits[stage]}/{total[stage]}" for stage in asked if total[stage])
    idle = sum(of.get("up to date", 0) for of in asked.values())
    rest = f"; {idle} were up to date" if idle else ""
    return f"cache: {sum(hits.values())} of {sum(total.values())} stages restored ({each}){rest}"


def _meta(task: DoitTask) -> TaskMeta:
    return task.meta or {}


def _model(task: DoitTask) -> str:
    return str(_meta(task).get("model", ""))


def _stage(task: DoitTask) -> str:
    return str(_meta(task).get("stage", ""))


def _needed(tasks: dict[str, DoitTask], selected: list[str]) -> list[str]:
    """The selected tasks and all that they depend on."""
    waiting, found = list(selected), dict.fromkeys(selected)
    while waiting:
        task = tasks.get(waiting.pop(0))
        new = [name for name in (task.task_dep if task else ()) if name not in found]
        found |= dict.fromkeys(new)
        waiting += new
    return [name for name in found if name in tasks]
