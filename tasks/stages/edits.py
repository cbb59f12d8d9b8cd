"""Edits of published files: what a user wrote into a compiled folder is set aside and reported before a build writes the file again."""

import hashlib
import json
from collections.abc import Collection, Iterator
from pathlib import Path

from axforge.axcompiler import manifest
from axforge.axruntime.deployed.seal import KEY, own_digest
from axforge.axruntime.pipeline.models import FILE
from axforge.tasks.project.plan import BuildPlan

#: What the stage pack writes into the folder.
COMPILED = (manifest.MODEL_FILE, manifest.FILE)


def set_aside(plan: BuildPlan, names: Collection[str], current: Collection[str] = ()) -> None:
    """Rename each published file among `names` that is not as it was published to NAME.edited, and say so.

    current: SHA-256 of contents that a build may have written already, where it was killed before model.json was published.
    """
    folder = plan.published
    for name in _edited(plan, current):
        if name in names:
            kept = _free_name(folder / f"{name}.edited")
            (folder / name).rename(kept)
            what = f"{folder / name} is not as it was published, and is written again; what it was is now {kept.name}."
            plan.channel.say(f"{plan.model.name}: {what}\n  {_advice(plan, name)}")


def _edited(plan: BuildPlan, current: Collection[str]) -> Iterator[str]:
    folder = plan.published
    document = _read(folder / FILE)
    if document is None or document == _read(plan.model.path):  # as it came, and not as we publish it
        return
    try:
        published = json.loads(document)
        promised = published[KEY]
        if promised[FILE] != own_digest(published):
            yield FILE
    except (ValueError, KeyError, TypeError, RecursionError):
        yield FILE  # whoever removed the key wanted the edit to run
        return
    for name in COMPILED:
        content = _read(folder / name)
        if content is not None and name in promised and hashlib.sha256(content).hexdigest() not in (promised[name], *current):
            yield name


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _free_name(path: Path) -> Path:
    numbered = (path, *(path.with_name(f"{path.name}.{n}") for n in range(2, 1000)))
    return next(name for name in numbered if not name.exists())


def _advice(plan: BuildPlan, name: str) -> str:
    if name == FILE:
        return f"To keep a change, make it in {plan.model.path}."
    return f"To run a compiled model of your own, name its path as `model` in {plan.model.path}."
