"""Edits of published files: what a user wrote into a compiled folder is set aside and reported before a build writes the file again."""

import hashlib
import json
from collections.abc import Callable, Collection
from itertools import chain, count
from pathlib import Path

from axforge.axcompiler import manifest
from axforge.axruntime.deployed.seal import KEY, own_digest
from axforge.axruntime.pipeline.models import FILE
from axforge.tasks.project.plan import BuildPlan

#: What the stage pack writes into the folder.
COMPILED = (manifest.MODEL_FILE, manifest.FILE)


def set_aside(plan: BuildPlan, names: Collection[str], current: Callable[[], Collection[str]] = tuple) -> None:
    """Rename each published file among `names` that is not as it was published to NAME.edited, and say so.

    current: gives the SHA-256 of contents that a build may have written already, where it was killed before model.json was published.
    """
    folder = plan.published
    document = _read(folder / FILE)
    if document is None or document == _read(plan.model.path):  # as it came, and not as we publish it
        return
    for name in names:
        if _is_edited(name, folder, document, current):
            kept = _free_name(folder / f"{name}.edited")
            (folder / name).rename(kept)
            what = f"{folder / name} is not as it was published, and is written again; what it was is now {kept.name}."
            plan.channel.say(f"{plan.model.name}: {what}\n  {_advice(plan, name)}")


def _is_edited(name: str, folder: Path, document: bytes, current: Callable[[], Collection[str]]) -> bool:
    """Whether a file is not as model.json (`document`) says that it was published."""
    try:
        published = json.loads(document)
        promised = dict(published[KEY])
        if name == FILE:
            return bool(promised[FILE] != own_digest(published))
    except (ValueError, KeyError, TypeError, RecursionError):
        return name == FILE  # whoever removed the key wanted the edit to run; nothing says how the other files were
    content = _read(folder / name)
    if content is None or name not in promised:
        return False
    digest = hashlib.sha256(content).hexdigest()
    return digest != promised[name] and digest not in current()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _free_name(path: Path) -> Path:
    numbered = (path.with_name(f"{path.name}.{n}") for n in count(2))
    return next(name for name in chain([path], numbered) if not name.exists())


def _advice(plan: BuildPlan, name: str) -> str:
    if name == FILE:
        return f"To keep a change, make it in {plan.model.path}."
    return f"To run a compiled model of your own, name its path as `model` in {plan.model.path}."
