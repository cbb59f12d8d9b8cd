"""A stage as a doit task: a client of the cache.

doit asks `unchanged` first, which looks at time stamps and small digests and imports nothing heavy. Only if something may have
changed does `execute` name the action by the present content of all its inputs, and take its result from the cache or run it.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import Stage
from axforge.tasks.project.command_line import OPTIONS, doit_params
from axforge.tasks.project.doit_state import DoitTask, Question, Snapshot, TaskDict, Values, remember, same, settled_snapshots, snapshot
from axforge.tasks.project.failures import Guarded
from axforge.tasks.project.plan import BuildPlan, versions
from axforge.tasks.stages.code import sources
from axforge.tasks.stages.execution import obtain, open_cache
from axforge.tasks.stages.executor import Executor
from axforge.tasks.stages.inputs import NOUNS, inputs_of

if TYPE_CHECKING:
    from axforge.cache.explain import Explanation

#: Form of what is remembered between runs.
FORM = 5


class Done(NamedTuple):
    """What a stage leaves behind when it succeeded. As a dict, doit remembers it and takes it from one process to another.

    how: "ran" or "restored". key: of the action. seconds: it took. worker: that ran it, '' for this machine. reasons: why it was
    re-evaluated. libraries, entries, code, quick, spec: what decided, to compare with the next time. watched, outputs: snapshots by path.
    """

    how: str
    key: str
    seconds: float
    worker: str
    reasons: list[str]
    libraries: dict[str, str]
    entries: list[str]
    code: str
    quick: str
    spec: str
    watched: dict[str, Snapshot]
    outputs: dict[str, Snapshot]
    form: int = FORM

    @classmethod
    def remembered(cls, values: Values) -> "Done | None":
        """From what doit remembers; None if that is nothing, or of another form."""
        return cls(**{name: values[name] for name in cls._fields}) if values.get("form") == FORM else None


class StageTask:
    """One stage of one model. A plain object with module-level methods, so that it can be pickled for other processes."""

    def __init__(self, plan: BuildPlan, stage: Stage, executor: Executor) -> None:
        self.plan, self.stage, self.executor = plan, stage, executor

    @property
    def name(self) -> str:
        """Name of the task below its group."""
        return f"{self.plan.model.name}:{self.stage.name}"

    def as_doit(self) -> TaskDict:
        """The task as doit wants it."""
        outputs = [str(path) for path in self.plan.outputs(self.stage).values()]
        return {
            "name": self.name,
            "doc": f"{self.stage.name}: {', '.join(self.stage.outputs)}",
            "actions": [(Guarded(self.execute).__call__,)],
            "file_dep": [str(path) for path in self.plan.inputs(self.stage).values()],
            "targets": outputs,
            "uptodate": [Question("configuration, sources, versions and outputs are what they were", self.unchanged)],
            "clean": [(remove_files, [outputs])],
            "params": doit_params(OPTIONS),
            "meta": {
                "model": self.plan.model.name,
                "stage": self.stage.name,
                "explain": self.plan.options.explain,
                "announce": self.announce if self.plan.cluster else None,
            },
        }

    def announce(self) -> None:
        """Note that the task belongs to this run."""
        self.executor.announce(self.plan, self.stage)

    # --- is there anything to do? ---

    def unchanged(self, task: DoitTask, values: Values) -> bool:
        """Whether configuration, sources and outputs are what they were when the stage last succeeded."""
        done = Done.remembered(values)
        if self.plan.options.force or done is None:
            return False
        outputs = [str(path) for path in self.plan.outputs(self.stage).values()]
        files = {**done.watched, **done.outputs}
        if not set(outputs) <= set(files) or not all(same(path, before) for path, before in files.items()):
            return False
        try:
            return self._same_code(done) and self._same_settings(task, done)
        except (AxforgeError, OSError):
            return False  # reported when the task runs

    def _same_settings(self, task: DoitTask, done: Done) -> bool:
        """Whether the configuration is what it was. If that cannot be seen at a glance, it can be the next time."""
        glance = self._glance()
        if done.quick == glance:
            return True
        if done.spec != inputs_of(self.plan, self.stage).spec():
            return False
        remember(task, done._replace(quick=glance)._asdict())
        return True

    def _same_code(self, done: Done) -> bool:
        """Whether axforge's own code and the libraries that decide are what they were."""
        code = sources().digest(tuple(done.entries), self.plan.settings.code_memory)
        return code == done.code and versions(tuple(done.libraries)) == done.libraries

    def _glance(self) -> str:
        """A digest that is the same only if the configuration is: of all that was said, and of the code that is asked about it."""
        asked = sources().digest(inputs_of(self.plan, self.stage).asked, self.plan.settings.code_memory)
        return f"{self.plan.quick} {asked}"

    # --- doing it ---

    def execute(self) -> Values:
        """Restore the stage's outputs from the cache, or run it; returns what `unchanged` and the reporter need."""
        from axforge.cache.explain import why  # a build with nothing to do opens no cache

        inputs = inputs_of(self.plan, self.stage)
        inputs.refuse_mistakes()
        store = open_cache(self.plan)
        spec, action, quick = inputs.spec(), inputs.action(store), self._glance()
        label, options = self.plan.model.name, self.plan.options
        search = options.explain or options.require_cached
        reasons = why(store, action, label=label, scope=self.plan.scope, nouns=NOUNS, search=search)
        refusal = partial(self._not_cached, reasons) if options.require_cached else None
        if refusal is not None and store.lookup(action, count=False) is None:
            raise refusal()
        there = self.executor.delegate(self.plan, self.stage, store, action)
        inputs.set_edits_aside(store, action)
        result = obtain(store, inputs, action, scope=self.plan.scope, force=options.force and there is None, refusal=refusal)
        for sentence in inputs.remarks():
            self.plan.channel.say(f"{label}: {sentence}")
        done = Done(
            how="ran" if there else result.how,
            key=action.key(),
            seconds=there.seconds if there else round(result.seconds, 3),
            worker=there.worker if there else "",
            reasons=rerun_reasons(reasons, ran=result.how == "ran" or there is not None),
            libraries=dict(action.libraries),
            entries=list(inputs.entries),
            code=sources().digest(inputs.entries, self.plan.settings.code_memory),
            quick=quick,
            spec=spec,
            watched={str(path): snapshot(str(path)) for path in inputs.watched()},
            outputs=settled_snapshots(self.plan.outputs(self.stage).values()),
        )
        return done._asdict()

    def _not_cached(self, reasons: "Explanation") -> AxforgeError:
        """What --require-cached says instead of running the stage."""
        near = reasons.nearest is not None
        lines = [*rerun_reasons(reasons, ran=True), *([] if near else ["the cache has no other result of this stage to compare with"])]
        what = f"The result of {self.stage.name} is not in the cache ({reasons.key[:12]}…), and --require-cached lets no stage run."
        return AxforgeError(what, where=self.plan.model.name, fix="\n  ".join(lines))


def rerun_reasons(reasons: "Explanation", ran: bool) -> list[str]:
    """Why the stage was re-evaluated, as lines: against the last build here and, if it had to run, the nearest record of the cache."""
    last, near = reasons.last, reasons.nearest
    if last is None:
        lines = ["not built here before"]
    else:
        lines = [change.line() for change in reasons.against_last] or [
            "no input changed: its outputs were not there, or not what they were"
        ]
    if ran and near is not None and (last is None or near.key != last.key):
        lines += [f"against the nearest in the cache ({near.label or near.key[:12]}): {c.line()}" for c in reasons.against_nearest]
    return lines


def remove_files(paths: list[str]) -> None:
    """For `doit clean`: remove published files (the cache keeps their content), and folders that are then empty."""
    for path in map(Path, paths):
        path.unlink(missing_ok=True)
        for folder in list(path.parents)[:4]:
            try:
                folder.rmdir()
            except OSError:
                break  # not empty, or not there
