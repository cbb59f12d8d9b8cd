"""A stage's result, restored or made: the cache, the stage's own log, and its reports of progress brought together."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import Stage
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.stages.inputs import StageInputs, inputs_of

if TYPE_CHECKING:
    from axforge.cache.build import Obtained
    from axforge.cache.key import Action
    from axforge.cache.store import Store


#: Sentences of the cache that this process has shown: each stage opens a store of its own.
_said: set[str] = set()


def open_cache(plan: BuildPlan) -> "Store":
    """The cache that is configured for the project; its sentences reach the user at once."""
    from axforge.cache.config import open_store  # a build with nothing to do opens no cache

    def warn(sentence: str) -> None:
        if sentence not in _said:
            _said.add(sentence)
            plan.channel.say(f"cache: {sentence}")

    return open_store(plan.settings.project, warn=warn)


def obtain(
    store: "Store",
    inputs: StageInputs,
    action: "Action",
    *,
    scope: str,
    force: bool,
    refusal: Callable[[], AxforgeError] | None = None,
) -> "Obtained":
    """Restore the outputs of a stage, or run it and keep them. refusal: what is raised instead of running it."""
    from axforge.cache.build import obtain  # a build with nothing to do opens no cache

    plan, stage = inputs.plan, inputs.stage
    return obtain(
        store,
        action,
        plan.folder(stage),
        lambda folder: run_stage(store, inputs, folder) if refusal is None else _refuse(refusal),
        label=plan.model.name,
        scope=scope,
        force=force,
        recheck=lambda: inputs_of(plan, stage).action(store),
    )


def obtain_stage(plan: BuildPlan, stage: Stage) -> "Obtained":
    """Restore the outputs of a stage of a model as they should be now, or run it."""
    store, inputs = open_cache(plan), inputs_of(plan, stage)
    return obtain(store, inputs, inputs.action(store), scope=plan.scope, force=plan.options.force)


def _refuse(refusal: Callable[[], AxforgeError]) -> NoReturn:
    raise refusal()


def run_stage(store: "Store", inputs: StageInputs, folder: Path) -> str | None:
    """Run the stage into an empty folder; what it prints is its log."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        inputs.run(store, folder, inputs.plan.channel.reporter(inputs.plan.model.name, inputs.stage.name))
    return printed.getvalue() or None
