"""The doit tasks of axforge. A dodo.py takes them with

    from tasks import DOIT_CONFIG, models_in, task_accuracy, task_cache, task_compile, task_infer, task_usage

and, for its own folder of models, calls `models_in("my_models")` after that. Light to import: nothing that computes.
"""

from typing import Any

from tasks.compiling import task_compile
from tasks.housekeeping import task_cache
from tasks.inferring import task_infer
from tasks.measuring import task_accuracy
from tasks.settings import models_in
from tasks.usage import task_usage

__all__ = ["DOIT_CONFIG", "models_in", "task_accuracy", "task_cache", "task_compile", "task_infer", "task_usage"]


def __getattr__(name: str) -> Any:
    if name == "DOIT_CONFIG":  # depends on what was typed, which a front end sets first
        from tasks.config import doit_config

        return doit_config()
    raise AttributeError(name)
