"""The doit tasks of axforge. A dodo.py takes them with

    from axforge.tasks import DOIT_CONFIG, models_in, task_accuracy, task_cache, task_compile, task_fit, task_infer, task_report, task_serve

and, for its own folder of models, calls `models_in("my_models")` after that; `allow_builders("module")` lets code of its own build models.
Light to import: nothing that computes.

The modules here are the tasks, the commands and what they print. Below them, each importing only what is further down:

cluster   stages and measurements on the workers of a Dask cluster
stages    the stages of the compiler as clients of the cache
screen    what a user sees while tasks run
project   what a run is about: what was typed, the project, its models, and the plan of each
"""

from typing import Any

from axforge.tasks.accuracy import task_accuracy
from axforge.tasks.compiling import task_compile
from axforge.tasks.fitting import task_fit
from axforge.tasks.housekeeping import task_cache
from axforge.tasks.inferring import task_infer
from axforge.tasks.project.settings import allow_builders, models_in
from axforge.tasks.reporting import task_report
from axforge.tasks.serving import task_serve
from axforge.tasks.usage import task_usage

__all__ = [
    "DOIT_CONFIG",
    "allow_builders",
    "models_in",
    "task_accuracy",
    "task_cache",
    "task_compile",
    "task_fit",
    "task_infer",
    "task_report",
    "task_serve",
    "task_usage",
]


def __getattr__(name: str) -> Any:
    if name == "DOIT_CONFIG":  # depends on what was typed, which a front end sets first
        from axforge.tasks.config import doit_config  # reads the command line

        return doit_config()
    raise AttributeError(name)
