"""Which models there are, and their descriptors as plain JSON. Only what is asked for is opened: a zoo may hold thousands.

A model is a folder with a model.json. For a name that no folder has, the table of published networks (ax_models/zoo) is read, and
the model.json that its row makes is written below the build root, where everything else finds it as a file.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.models import FILE, NAME, find_model, model_names
from axforge.tasks.project.settings import Settings

if TYPE_CHECKING:
    from axforge.ax_models.zoo.table import PublishedNetwork

#: A model.json that has not been checked.
Document = dict[str, Any]
#: Folder of descriptors made from the table, below the build root.
MADE = "zoo"


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
    """Names of all models that have a folder, sorted: those that lists and patterns mean. The table's networks come by their names."""
    return model_names(settings.models)


def known(name: str, settings: Settings) -> bool:
    """Whether there is a model of that name. Lists no folder."""
    return NAME.fullmatch(name) is not None and (_has_folder(name, settings) or _row(name) is not None)


def find(name: str, settings: Settings) -> ZooModel:
    """The model of that name. Raises AxforgeError, with the nearest names, if there is none, or its model.json is not a JSON object."""
    if _has_folder(name, settings) or (network := _row(name)) is None:
        path = find_model(name, settings.models, _table_names)
    else:
        path = _made(network, settings)
    return ZooModel(name, path, _load(path))


def _has_folder(name: str, settings: Settings) -> bool:
    return NAME.fullmatch(name) is not None and any((root / name / FILE).is_file() for root in settings.models)


def _row(name: str) -> "PublishedNetwork | None":
    from axforge.ax_models.zoo import table  # a model that has a folder is found without the table

    return table.find(name)


def _table_names() -> Sequence[str]:
    from axforge.ax_models.zoo import table  # a model that has a folder is found without the table

    return table.names()


def _made(network: "PublishedNetwork", settings: Settings) -> Path:
    """The model.json of a row, written if it is not there as it would be made now. Raises AxforgeError."""
    from axforge.ax_models.zoo import table  # a model that has a folder is found without the table
    from axforge.axcompiler.container import write_atomic

    path, data = settings.build_root / MADE / network.name / FILE, table.text(network)
    try:
        if not path.is_file() or path.read_bytes() != data:
            write_atomic(path, data)
    except OSError as error:
        fix = "Name another folder with --build-root or AXFORGE_BUILD_ROOT."
        raise AxforgeError(f"The model's descriptor cannot be written: {error.strerror}.", where=str(path), fix=fix) from error
    return path


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
