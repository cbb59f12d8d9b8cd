"""`doit fit:MODEL`: whether a network fits the AIPU and how fast boards would be with it, before anything is calibrated."""

from collections.abc import Iterator

from doit.exceptions import TaskFailed

from axforge.tasks import compiling
from axforge.tasks.project import command_line
from axforge.tasks.project.doit_state import TaskDict
from axforge.tasks.project.failures import Guarded, report_user_errors
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import PROJECT


@report_user_errors
def task_fit() -> Iterator[TaskDict]:
    """fit:MODEL says in seconds whether it fits, how fast it would be, and what would help (status 1 if it does not fit)"""
    typed = PROJECT.command_line
    yield {"name": None, "doc": task_fit.__doc__}
    command_line.refuse_bare("fit", typed)
    named = [rest.partition(":")[0] for rest in typed.of_group("fit")]
    if named and all(task.startswith("fit:") for task in typed.tasks):
        PROJECT.only_looks = True  # nothing is calibrated, so mistakes that matter only then are no obstacle
    for plan in compiling.plans(typed) if named else ():
        if plan.model.name in named:
            yield FitAnswer(plan).as_doit()


class FitAnswer:
    """One model's answer."""

    def __init__(self, plan: BuildPlan) -> None:
        self.plan = plan

    def as_doit(self) -> TaskDict:
        """The task as doit wants it: it always runs, after the stage check."""
        name = self.plan.model.name
        return {
            "name": name,
            "doc": f"say whether {name} fits",
            "actions": [(Guarded(self.execute).__call__,)],
            "task_dep": [f"compile:{name}:check"],
            "uptodate": [False],
            "verbosity": 2,
            "io": {"capture": False},
            "params": command_line.doit_params(command_line.OF_GROUP["fit"]),
            "meta": {"model": name, "prints": True},
        }

    def execute(self) -> bool | TaskFailed:
        """Print the answer; it fails where the network does not fit."""
        from axforge.tasks.fitting_trial import answer  # loads the compiler

        fits, lines = answer(self.plan, self.plan.options.fps)
        for line in lines:
            print(f"{self.plan.model.name}: {line}", flush=True)
        return True if fits else TaskFailed("it does not fit", report=False)  # it has been printed
