"""`doit report:MODEL`: a compiled model as one HTML page."""

from collections.abc import Iterator

from axforge.tasks import compiling
from axforge.tasks.compiling import shown
from axforge.tasks.project import command_line
from axforge.tasks.project.doit_state import TaskDict
from axforge.tasks.project.failures import Guarded, report_user_errors
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import PROJECT


@report_user_errors
def task_report() -> Iterator[TaskDict]:
    """report:MODEL compiles if needed, then writes an HTML page: where layers run, when, in which memory, and what limits them"""
    typed = PROJECT.command_line
    yield {"name": None, "doc": task_report.__doc__}
    command_line.refuse_bare("report", typed)
    named = [rest.partition(":")[0] for rest in typed.of_group("report")]
    for plan in compiling.plans(typed) if named else ():
        if plan.model.name in named:
            yield ReportPage(plan).as_doit()


class ReportPage:
    """One model's page."""

    def __init__(self, plan: BuildPlan) -> None:
        self.plan = plan

    def as_doit(self) -> TaskDict:
        """The task as doit wants it: it always runs, after the compilation."""
        name = self.plan.model.name
        return {
            "name": name,
            "doc": f"write a page on {name}",
            "actions": [(Guarded(self.execute).__call__,)],
            "task_dep": [f"compile:{name}"],
            "uptodate": [False],
            "verbosity": 2,
            "io": {"capture": False},
            "params": command_line.doit_params(command_line.OF_GROUP["report"]),
            "meta": {"model": name, "prints": True},
        }

    def execute(self) -> None:
        """Write the page to the model's results. Raises AxforgeError."""
        from axforge.axcompiler import container  # listing tasks loads none of them
        from axforge.axruntime.deployed.opening import open_deployed
        from axforge.axruntime.report.facts import facts_of
        from axforge.axruntime.report.page import html
        from axforge.tasks.accuracy_layers import measured_noise

        plan = self.plan
        model = open_deployed(plan.own or plan.axmodel).model.checked()
        path = plan.results / f"report-{model.meta.cores}.html"
        plan.results.mkdir(parents=True, exist_ok=True)
        container.write_atomic(path, html(facts_of(model, measured_noise(plan), title=plan.model.name)).encode())
        print(f"{plan.model.name}: report: {shown(path, plan)}", flush=True)
