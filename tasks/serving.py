"""`doit serve:MODEL`: a model as an HTTP service."""

import sys
from collections.abc import Iterator
from typing import Any

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.packages import require
from axforge.tasks.inferring import plan_to_run
from axforge.tasks.project import command_line, ready
from axforge.tasks.project.engines import COMPILED, pipe_of
from axforge.tasks.project.failures import Guarded, report_user_errors
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import PROJECT


@report_user_errors
def task_serve() -> Iterator[dict[str, Any]]:
    """serve:MODEL compiles if needed, then answers HTTP requests (Open Inference Protocol) until Ctrl-C"""
    typed = PROJECT.command_line
    yield {"name": None, "doc": task_serve.__doc__}
    command_line.refuse_bare("serve", typed)
    here = PROJECT.settings()
    for package in ("starlette", "uvicorn", "prometheus_client") if typed.of_group("serve") else ():
        require(package)  # before anybody waits for a compilation
    for model in typed.of_group("serve"):
        yield Serve(plan_to_run(model, typed, here)).as_doit(command_line.encoded(model))


class Serve:
    """One model as a service."""

    def __init__(self, plan: BuildPlan) -> None:
        self.plan, self.pipe = plan, pipe_of(plan.options.pipe)
        if self.pipe not in COMPILED:
            raise AxforgeError(f"A service runs a compiled model, and the engine {self.pipe} does not.", fix=f"Take {', '.join(COMPILED)}.")

    def as_doit(self, name: str) -> dict[str, Any]:
        """The task as doit wants it: it always runs, after the compilation."""
        return {
            "name": name,
            "doc": f"serve {self.plan.model.name} over HTTP",
            "actions": [(Guarded(self.execute).__call__,)],
            "task_dep": [] if isinstance(self.plan, ready.Ready) else [f"compile:{self.plan.model.name}"],
            "uptodate": [False],
            "verbosity": 2,
            "io": {"capture": False},
            "params": command_line.doit_params(command_line.OF_GROUP["serve"]),
            "meta": {"model": self.plan.model.name, "prints": True},
        }

    def execute(self) -> None:
        """Answer requests until Ctrl-C or SIGTERM."""
        from axforge.axruntime.model import Model  # loads NumPy
        from axforge.axruntime.serving.server import DEFAULT_HOST, DEFAULT_PORT, ServingOptions, serve

        plan, options = self.plan, self.plan.options
        compiled = plan.compiled if isinstance(plan, ready.Ready) else plan.own or plan.published
        with Model(compiled, engine=self.pipe) as model:
            serve(model, ServingOptions(options.host or DEFAULT_HOST, options.port or DEFAULT_PORT), sys.stdout)
