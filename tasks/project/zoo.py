"""Which models there are, and their descriptors as plain JSON. Only what is asked for is opened: a zoo may hold thousands."""

import json
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
    def network(self) -> str:
        """First folder under the build root."""
        return self.name

    @property
    def published_name(self) -> str:
        """Second folder under the build root: what `model` in the descriptor begins with, else the name."""
        head = str(self.raw.get("model", "")).split("/")[0]
        return head if NAME.fullmatch(head) else self.name


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
    except (OSError, ValueError) as error:
        raise AxforgeError(
            f"The model's descriptor cannot be read: {error}.", where=str(path), fix="Write it as JSON; docs/models.md describes it."
        ) from error
    if not isinstance(raw, dict):
        raise AxforgeError("The model's descriptor is not a JSON object.", where=str(path), fix='Start it with {"name": ….')
    return raw
