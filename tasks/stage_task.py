"""A stage as a doit task: a client of the cache.

doit asks `unchanged` first, which looks at time stamps and small digests and imports nothing heavy. Only if something may have
changed does `execute` name the action by the present content of all its inputs, and take its result from the cache or run it.
"""

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import Stage
from axforge.tasks import calibration, progress
from axforge.tasks.doit_state import Question, same, settled_snapshots, snapshot
from axforge.tasks.plan import SDK, Plan, digest, versions

if TYPE_CHECKING:
    from axforge.cache.build import Result
    from axforge.cache.explain import Explanation
    from axforge.cache.key import Action, Input
    from axforge.cache.store import Store

Values = dict[str, Any]

#: Form of what is remembered between runs.
MEMORY = 2


class StageTask:
    """One stage of one model. A plain object with module-level methods, so that it can be pickled for other processes."""

    def __init__(self, plan: Plan, stage: Stage) -> None:
        self.plan, self.stage = plan, stage

    @property
    def name(self) -> str:
        """Name of the task below its group."""
        return f"{self.plan.model.name}:{self.stage.name}"

    @property
    def scope(self) -> str:
        """The workspace that "the last build" means."""
        return str(self.plan.settings.build_root)

    def as_doit(self) -> dict[str, Any]:
        """The task as doit wants it."""
        from axforge.tasks.failures import Guarded
        from axforge.tasks.words import OPTIONS, doit_params

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
                "elsewhere": self.plan if self.plan.cluster else None,
            },
        }

    # --- is there anything to do? ---

    def unchanged(self, task: Any, values: Values) -> bool:
        """Whether configuration, sources and outputs are what they were when the stage last succeeded."""
        if self.plan.options.force or values.get("memory") != MEMORY:
            return False
        outputs = [str(path) for path in self.plan.outputs(self.stage).values()]
        remembered = {**values["watched"], **values["outputs"]}
        if not set(outputs) <= set(remembered) or not all(same(path, before) for path, before in remembered.items()):
            return False
        return self._same_versions(values) and (self._same_at_a_glance(values) or self._same_in_depth(values))

    def _same_versions(self, values: Values) -> bool:
        try:
            return versions(tuple(values["libraries"])) == values["libraries"]
        except AxforgeError:
            return False

    def _same_at_a_glance(self, values: Values) -> bool:
        try:
            return bool(values["quick"] == self.plan.quick(self.stage))
        except (AxforgeError, OSError):
            return False

    def _same_in_depth(self, values: Values) -> bool:
        try:
            return bool(values["spec"] == self.spec())
        except (AxforgeError, OSError):
            return False  # said when the task runs

    def spec(self) -> str:
        """A digest of what decides the key besides content of files."""
        plan, stage = self.plan, self.stage
        facts: list[Any] = [3, stage.name, stage.version, SDK, plan.key_config(stage)]
        if stage.name in ("fetch", "calibrate"):
            facts.append(str(plan.settings.data_root))
        if stage.name == "fetch":
            facts += [repr(plan.descriptor.source), plan.options.onnx and str(plan.settings.typed(plan.options.onnx))]
        if stage.name == "calibrate":
            facts += [calibration.facts(plan), repr(plan.descriptor.calibration), plan.options.num_cal_images]
        if stage.name == "tile":
            facts.append(plan.target.read_text(encoding="utf-8") if plan.target.is_file() else "")
        return digest(facts)

    # --- doing it ---

    def execute(self) -> Values:
        """Restore the stage's outputs from the cache, or run it; returns what `unchanged` and the reporter need."""
        from axforge.cache.explain import why

        store = self.open_store()
        quick, spec = self.plan.quick(self.stage), self.spec()
        work = make_work(self.plan, self.stage)
        action = self.action(store, work)
        label, explain = self.plan.model.name, self.plan.options.explain
        reasons = why(store, action, label=label, scope=self.scope, nouns={calibration.INPUT: "image"}, search=explain)
        there = self._elsewhere(store, action)
        result = self.obtain(store, work, action, scope=self.scope, force=self.plan.options.force and there is None)
        return {
            "memory": MEMORY,
            "how": result.how,
            "key": action.key(),
            "seconds": round(result.seconds, 3),
            **(there or {}),
            "because": because(reasons, ran=result.how == "ran" or there is not None),
            "libraries": dict(action.libraries),
            "quick": quick,
            "spec": spec,
            "watched": {str(path): snapshot(str(path)) for path in work.watched()},
            "outputs": settled_snapshots(self.plan.outputs(self.stage).values()),
        }

    def _elsewhere(self, store: "Store", action: "Action") -> Values | None:
        """What the cluster did of this stage, if there is a cluster and anything to do: its result is in the cache then."""
        if not self.plan.cluster or self.stage.name == "fetch":
            return None
        from axforge.tasks.cluster.fanout import compiled_there

        return compiled_there(self, store, action)

    def open_store(self) -> "Store":
        """The cache that is configured for the project; its sentences reach the user at once."""
        from axforge.cache.config import open_store

        return open_store(self.plan.settings.project, warn=lambda sentence: progress.say(f"cache: {sentence}"))

    def obtain(self, store: "Store", work: "Work", action: "Action", *, scope: str, force: bool) -> "Result":
        """Restore the outputs, or run the stage and keep them."""
        from axforge.cache.build import obtain

        return obtain(
            store,
            action,
            self.plan.folder(self.stage),
            lambda folder: self.run(work, folder),
            label=self.plan.model.name,
            scope=scope,
            force=force,
            recheck=lambda: self.action(store, make_work(self.plan, self.stage)),
        )

    def action(self, store: Any, work: "Work", made: Mapping[str, str] | None = None) -> "Action":
        """The action, named by the content its inputs have now. made: SHA-256 of artefacts that need not be in place."""
        from axforge.cache.key import Action

        artefacts = self.plan.inputs(self.stage)
        known: Mapping[str, Input] = {name: digest for name, digest in (made or {}).items() if name in artefacts}
        paths = {name: path for name, path in {**artefacts, **work.files}.items() if name not in known}
        found = dict(zip(paths, store.files.digests(paths.values()), strict=True))
        inputs: dict[str, Input] = {**found, **known, **work.trees(store)}
        return Action(
            stage=self.stage.name,
            stage_version=self.stage.version,
            inputs=inputs,
            config={**self.plan.key_config(self.stage), **work.facts},
            sdk=SDK,
            libraries=versions((*self.stage.libraries, *work.libraries)),
            outputs=self.stage.outputs,
        )

    def run(self, work: "Work", folder: Path) -> str | None:
        """Run the stage into an empty folder; what it prints is its log."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            work.run(folder, progress.reporter_of(self.plan.model.name, self.stage.name))
        return printed.getvalue() or None


class Work:
    """What is particular to a stage: what else it reads, what else decides it, and how it is called."""

    def __init__(self, plan: Plan, stage: Stage) -> None:
        self.plan, self.stage = plan, stage
        self.files: Mapping[str, Path] = {}
        self.facts: Mapping[str, Any] = {}
        self.libraries: tuple[str, ...] = ()

    def trees(self, store: Any) -> Mapping[str, Any]:
        """Inputs that are many files."""
        return {}

    def watched(self) -> list[Path]:
        """Files and folders whose change may mean work, and which doit does not know of."""
        return list(self.files.values())

    def run(self, folder: Path, report: Any) -> None:
        """Run the stage."""
        self.stage.run()(self.plan.inputs(self.stage), self.plan.config(self.stage), folder, report)


class Fetch(Work):
    """The source of the model."""

    def __init__(self, plan: Plan, stage: Stage) -> None:
        super().__init__(plan, stage)
        from axforge.tasks.sources import origin

        self.origin = origin(plan.descriptor.source, plan.options.onnx, plan.model.name, plan.settings)
        self.files, self.facts, self.libraries = self.origin.files, self.origin.facts, self.origin.libraries

    def run(self, folder: Path, report: Any) -> None:
        self.origin.write(folder / "model.onnx", report)


class Calibrate(Work):
    """The samples that ranges are measured on."""

    def __init__(self, plan: Plan, stage: Stage) -> None:
        super().__init__(plan, stage)
        self.names: list[str] = []
        self.chosen = calibration.choose(plan)
        self.facts, self.libraries = calibration.facts(plan), calibration.libraries()

    def trees(self, store: Any) -> Mapping[str, Any]:
        self.names = self.chosen.names(store)
        return {calibration.INPUT: self.chosen.tree(store)}

    def watched(self) -> list[Path]:
        return [*self.chosen.folders, *self.chosen.files()]

    def run(self, folder: Path, report: Any) -> None:
        from axforge.axruntime.pipeline.calibration import stand_ins

        if stand_ins(self.chosen.items):
            count, name = len(self.chosen.items), self.plan.model.name
            fix = 'for the best accuracy name your own: "calibration": {"path": "FOLDER"} in model.json, below the data root.'
            progress.say(f"{name}: calibrating on {count} sample photos that installed packages ship; {fix}")
        samples = calibration.Feeds(self.plan, self.chosen, self.names)
        self.stage.run()(self.plan.inputs(self.stage), self.plan.config(self.stage), folder, report, samples=samples)


class Tile(Work):
    """The AIPU's description is content too."""

    def __init__(self, plan: Plan, stage: Stage) -> None:
        super().__init__(plan, stage)
        if not plan.target.is_file():
            raise AxforgeError("There is no such target.", where=str(plan.target), fix="Name a file in axcompiler/targets, such as metis.")
        self.files = {"target": plan.target}


def make_work(plan: Plan, stage: Stage) -> Work:
    """The Work of a stage, with its sources as they are now. Raises AxforgeError when one is not there."""
    kinds: dict[str, type[Work]] = {"fetch": Fetch, "calibrate": Calibrate, "tile": Tile}
    return kinds.get(stage.name, Work)(plan, stage)


def because(reasons: "Explanation", ran: bool) -> list[str]:
    """Why a stage was looked at again, as lines: against the last build here and, if it had to run, the nearest record of the cache."""
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
