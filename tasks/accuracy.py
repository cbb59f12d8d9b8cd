"""`doit accuracy` and `doit accuracy:MODEL`: the fp32 model against the compiled one, on the model's own dataset."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from doit.exceptions import TaskFailed

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import BY_NAME
from axforge.tasks import compiling
from axforge.tasks.project import command_line
from axforge.tasks.project.engines import needs, pipe_of
from axforge.tasks.project.failures import Guarded, report_user_errors
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import PROJECT

if TYPE_CHECKING:
    from axforge.tasks.junit import Case


@report_user_errors
def task_accuracy() -> Iterator[dict[str, Any]]:
    """accuracy of all models whose data are there, or accuracy:MODEL: fp32 against compiled, with a verdict (status 1 when worse)"""
    typed = PROJECT.command_line
    yield {"name": None, "doc": task_accuracy.__doc__}
    if not (typed.everything() or typed.of_group("accuracy")):
        return
    named = [rest.partition(":")[0] for rest in typed.of_group("accuracy")]
    for plan in compiling.plans(typed):
        yield Accuracy(plan, plan.model.name in named).as_doit()


def missing(plan: BuildPlan) -> str:
    """Why a model cannot be measured here; '' if it can."""
    raw = plan.model.raw
    root = plan.settings.data_root
    dataset = raw.get("dataset")
    if not isinstance(dataset, dict):
        return "its model.json names no dataset"
    if root is None:
        return f"its data set {dataset.get('path')} is below the data root, and none is set (--data-root or AXFORGE_DATA_ROOT)"
    if not (root / str(dataset.get("path", ""))).exists():
        return f"its data set {root / str(dataset.get('path', ''))} is not there"
    source = raw.get("source", {})
    fetched = plan.outputs(BY_NAME["fetch"])["model.onnx"].is_file()
    if isinstance(source, dict) and not fetched and not plan.options.onnx:
        if "file" in source and not (root / str(source["file"])).is_file():
            return f"its ONNX {root / str(source['file'])} is not there"
        if "url" in source and not (root / "models" / str(source["url"]).rsplit("/", 1)[-1]).is_file():
            return "its ONNX is not here yet (compiling the model gets it)"
    return ""


class Accuracy:
    """One model's measurement. asked: named on the command line, so that missing data is a mistake and not a reason to skip."""

    def __init__(self, plan: BuildPlan, asked: bool) -> None:
        self.plan, self.asked = plan, asked
        self.pipe = pipe_of(plan.options.pipe)
        self.reason = missing(plan)
        self.allowed = points(plan.options.fail_above) if plan.options.fail_above else None

    def as_doit(self) -> dict[str, Any]:
        """The task as doit wants it."""
        name = self.plan.model.name
        return {
            "name": name,
            "doc": f"measure {name}" + (f" (skipped: {self.reason})" if self.reason else ""),
            "actions": [(Guarded(self.execute).__call__,)],
            "task_dep": self._needed(),
            "uptodate": [False],
            "verbosity": 2,
            "io": {"capture": False},
            "params": command_line.doit_params(command_line.ALL_OPTIONS),
            "meta": {"model": name, "prints": True},
        }

    def _needed(self) -> list[str]:
        """The tasks that come first."""
        name, stage = self.plan.model.name, needs(self.pipe)
        if self.plan.options.layers:
            return [f"compile:{name}"]
        return [] if self.reason else [f"compile:{name}" + (f":{stage}" if stage else "")]

    def execute(self) -> Any:
        """Measure, print, and fail when the loss is more than model.json allows."""
        from axforge.tasks.junit import Case  # only measuring writes it

        name = self.plan.model.name
        try:
            case, answer = self._measure(Case(name, self.pipe))
        except AxforgeError as e:
            self._record(Case(name, self.pipe, "error", str(e)))
            raise
        self._record(case)
        return answer

    def _record(self, case: "Case") -> None:
        from axforge.tasks.junit import record  # only measuring writes it

        if self.plan.options.junit:
            record(self.plan.settings.typed(self.plan.options.junit), case, self.plan.settings.build_root / ".junit.lock")

    def _measure(self, case: "Case") -> "tuple[Case, bool | TaskFailed]":
        """What goes into the JUnit file, and what doit gets."""
        layers = self.plan.options.layers
        if self.reason and self.asked and not layers:
            raise AxforgeError(f"{case.model} cannot be measured: {self.reason}.")
        if layers:
            from axforge.tasks.accuracy_layers import show_layers  # loads onnx and NumPy

            show_layers(self.plan)
        if self.reason:
            print(f"{case.model}: skipped, {self.reason}", flush=True)
            return replace(case, outcome="skipped", sentence=self.reason), True
        from axforge.tasks.accuracy_verdict import judge  # only measuring needs tables and engines

        start = time.monotonic()
        verdict = judge(self.plan, self.pipe, self.allowed)
        case = replace(case, outcome="failure" if verdict.failed else "passed", sentence=verdict.sentence, seconds=time.monotonic() - start)
        return case, TaskFailed(verdict.sentence, report=False) if verdict.failed else True  # it has been printed


def points(typed: str) -> float:
    """What `--fail-above` says. Raises AxforgeError."""
    try:
        value = float(typed)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise AxforgeError(f"--fail-above takes points from 0 to 100, not {typed!r}.", fix="For example --fail-above 0.5.")
    return value
