"""All steps that there are: the modules of `preprocessing/` and `postprocessing/`, found by looking there. Light to import."""

from typing import TYPE_CHECKING, Union

from axforge.axcompiler.registry import load_modules
from axforge.axruntime.pipeline import step

__all__ = ["POST_STEPS", "PRE_STEPS", "TASKS", "PostStep", "PreStep"]

load_modules("axforge.axruntime.pipeline.preprocessing")
load_modules("axforge.axruntime.pipeline.postprocessing")
PRE_STEPS = step.registered(step.PreStep)
POST_STEPS = step.registered(step.PostStep)
TASKS = tuple(sorted({s.gives.task for s in POST_STEPS.values()} - {""}))

if TYPE_CHECKING:
    from axforge.axruntime.pipeline.step import PostStep, PreStep
else:  # what msgspec decodes: exactly one of these, by its tag
    PreStep, PostStep = Union[tuple(PRE_STEPS.values())], Union[tuple(POST_STEPS.values())]  # noqa: UP007
