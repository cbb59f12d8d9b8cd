"""`doit infer:MODEL:SOURCE` for any SOURCE that is typed."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from axforge.axcompiler.errors import AxforgeError
from axforge.cache.errors import masked
from axforge.tasks import unchecked
from axforge.tasks.compiling import shown
from axforge.tasks.project import command_line, ready, zoo
from axforge.tasks.project.engines import FLOAT, needs, pipe_of
from axforge.tasks.project.failures import Guarded, report_user_errors
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import PROJECT, Settings

EXAMPLE = "For example: doit infer:efficientnet_lite0-imagenet:sample:grace_hopper"


@report_user_errors
def task_infer() -> Iterator[dict[str, Any]]:
    """infer:MODEL:SOURCE compiles if needed, then runs the model on a picture, folder, video, sample:NAME, fakevideo:WxH or address"""
    typed = PROJECT.command_line
    yield {"name": None, "doc": task_infer.__doc__}
    if typed.command == "run" and ("infer" in typed.tasks or "infer:" in typed.tasks):
        raise AxforgeError("infer needs a model and a source.", fix=EXAMPLE)
    here = PROJECT.settings()
    plans: dict[str, BuildPlan] = {}
    _refuse_one_file_for_many(typed)
    for rest in typed.of_group("infer"):
        model, _, source = rest.partition(":")
        if not source:
            raise AxforgeError(f"infer:{rest} has no source.", fix=f"For example: doit infer:{model}:sample:grace_hopper")
        plan = plans[model] = plans.get(model) or plan_to_run(model, typed, here)
        task = Infer(plan, source).as_doit(command_line.encoded(rest))
        if typed.command == "run":
            from axforge.tasks.running import check  # only a run needs tables

            check(plan, source)
        yield task


def plan_to_run(model: str, typed: command_line.CommandLine, here: Settings) -> BuildPlan:
    """What runs: the model of a name, compiled first if needed, or what is compiled already. Raises AxforgeError."""
    options = typed.options(model)
    found = ready.find(model, options, here)
    if found is not None:
        ready.refuse_options(found, pipe_of(options.pipe), FLOAT)
        if not ready.is_path(model) and found.compiled.is_relative_to(here.build_root) and typed.command == "run":
            _say_unchecked(found, "its model.json is in no folder of models")
        return found
    plan = BuildPlan(zoo.find(model, here), options, here, PROJECT.channel)
    if typed.command != "run" or needs(pipe_of(options.pipe)):
        return plan
    if (compiled := unchecked.build_to_run(plan)) is None:
        return plan
    _say_unchecked(*compiled)
    return compiled[0]


def _say_unchecked(plan: ready.Ready, reason: str) -> None:
    where = shown(plan.compiled, plan)
    print(f"{plan.model.name}: not checked whether {where} is current, for this is away: {masked(reason)}", file=sys.stderr, flush=True)


def _refuse_one_file_for_many(typed: command_line.CommandLine) -> None:
    asked = [typed.options(rest.partition(":")[0]).save_output for rest in typed.of_group("infer")]
    for name in asked:
        if name and asked.count(name) > 1 and Path(name).suffix:
            raise AxforgeError(f"{len(asked)} sources cannot all be written to {name}.", fix="Name a folder after --save-output.")


class Infer:
    """One source through one model."""

    def __init__(self, plan: BuildPlan, source: str) -> None:
        self.plan, self.source = plan, source
        self.pipe = pipe_of(plan.options.pipe)

    def as_doit(self, name: str) -> dict[str, Any]:
        """The task as doit wants it: it always runs, after what it needs."""
        stage, plans = needs(self.pipe), [] if isinstance(self.plan, ready.Ready) else self.plan.with_others()
        return {
            "name": name,
            "doc": f"run {self.plan.model.name} on {self.source}",
            "actions": [(Guarded(self.execute).__call__,)],
            "task_dep": [f"compile:{plan.model.name}" + (f":{stage}" if stage else "") for plan in plans],
            "uptodate": [False],
            "verbosity": 2,
            "io": {"capture": False},
            "params": command_line.doit_params(command_line.OF_GROUP["infer"]),
            "meta": {"model": self.plan.model.name, "prints": True},
        }

    def execute(self) -> dict[str, Any]:
        """Run it; returns what a script may want to know."""
        from axforge.tasks.running import run  # only a run needs tables

        return run(self.plan, self.source, self.pipe)
