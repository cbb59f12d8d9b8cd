"""Which models there are, and their descriptors as plain JSON. Only what is asked for is opened: a zoo may hold thousands."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.models import FILE, NAME, find_model, model_names
from axforge.tasks.project.settings import Settings

#: A model.json that has not been checked.
Document = dict[str, Any]


@dataclass(frozen=True)
class ZooModel:
    """A model of the zoo. name: of its folder. path: its model.json. raw: that file as JSON (checked in depth by the pipeline)."""

    name: str
    path: Path
    raw: Document

    @property
    def own(self) -> str:
        """What `model` in the descriptor says where that is a compiled model of the user's own; '' for the one that compiling writes."""
        said = self.raw.get("model")
        return said if isinstance(said, str) and said and not re.fullmatch(rf"{re.escape(self.name)}/[1-4]/model\.axmodel", said) else ""

    def build_folder(self, settings: Settings) -> Path:
        """Where compiling this model writes, in a folder for each number of cores."""
        return settings.build_root / self.name / self.name


def names(settings: Settings) -> list[str]:
    """Names of all models, sorted."""
    return model_names(settings.models)


def known(name: str, settings: Settings) -> bool:
    """Whether there is a model of that name. Lists no folder."""
    return NAME.fullmatch(name) is not None and any((root / name / FILE).is_file() for root in settings.models)


def find(name: str, settings: Settings) -> ZooModel:
    """The model of that name. Raises AxforgeError, with the nearest names, if there is none, or its model.json is not a JSON object."""
    path = find_model(name, settings.models)
    return ZooModel(name, path, _load(path))


def _load(path: Path) -> Document:
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise AxforgeError(
            f"The model's descriptor cannot be read: {error}.", where=str(path), fix="Write it as JSON; docs/models.md describes it."
        ) from error
    if not isinstance(raw, dict):
        raise AxforgeError("The model's descriptor is not a JSON object.", where=str(path), fix='Start it with {"name": ….')
    return raw
