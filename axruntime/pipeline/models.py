"""Finds models: folders with a model.json. Only the named folder is read, because a zoo may hold thousands. Light to import."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError

FILE = "model.json"
#: The step of post-processing that runs another model.
RUN_MODEL = "run_model"
#: What a model's folder may be called, to be part of the name of a task.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def find_model(name: str, roots: Sequence[Path], others: Callable[[], Sequence[str]] = tuple) -> Path:
    """Path of the model.json of `name`: `<root>/<name>/model.json` in the first root that has it.

    Looks at that path alone; folders are listed only for an unknown name, to suggest the nearest of these and of `others`. Raises
    AxforgeError.
    """
    if NAME.fullmatch(name):
        for root in roots:
            if (path := root / name / FILE).is_file():
                return path
    from axforge.axruntime.pipeline.problems import suggest  # costs start-up time, and is needed only when something is wrong

    fix = f"{suggest(name, [*model_names(roots), *others()], 'model')} AXFORGE_MODELS names folders with models of your own."
    raise AxforgeError(f"There is no model {name!r}.", where=", ".join(str(root) for root in roots), fix=fix)


def models_run(document: Mapping[str, object]) -> list[str]:
    """Names of other models that the steps of a model.json run, each once. The document was not checked in depth."""
    steps = document.get("postprocessing")
    found = [step for step in steps if isinstance(step, dict) and step.get("type") == RUN_MODEL] if isinstance(steps, list) else []
    return list(dict.fromkeys(name for step in found if isinstance(name := step.get("model"), str)))


def model_names(roots: Sequence[Path]) -> list[str]:
    """Names of all models in `roots`, sorted. Reads folders, no model.json."""
    found = set()
    for root in roots:
        if root.is_dir():
            with os.scandir(root) as entries:
                found |= {entry.name for entry in entries if NAME.fullmatch(entry.name) and Path(entry.path, FILE).is_file()}
    return sorted(found)
