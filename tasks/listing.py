"""The models there are, as a table: what each is for, where its weights come from, whether it is compiled. Reads descriptors only."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.tasks.project import zoo
from axforge.tasks.project.settings import Settings
from axforge.tasks.screen.display import table


@dataclass(frozen=True)
class ListedModel:
    """A model as a list shows it. weights: where the network comes from, and what is missing for it.

    ready: whether the network is here or comes with a package or an address. compiled: numbers of cores that it is compiled for.
    """

    name: str
    task: str
    weights: str
    ready: bool
    compiled: tuple[int, ...]
    description: str
    license: str
    own: bool

    def row(self) -> list[str]:
        """Its line of the table."""
        return [self.name, self.task, self.weights, ", ".join(map(str, self.compiled)) or "-"]


HEAD = ("model", "task", "weights", "compiled")


def listed(settings: Settings) -> list[ListedModel]:
    """All models, sorted by name. One whose model.json cannot be read is listed as that."""
    return [_listed(name, settings) for name in zoo.names(settings)]


def show(models: Sequence[ListedModel]) -> None:
    """Print the models as a table."""
    if models:
        table(f"{len(models)} models", HEAD, [model.row() for model in models])
        print("compiled: for so many AIPU cores")
    else:
        print("There are no models.")


def as_json(models: Sequence[ListedModel]) -> str:
    """The table for scripts."""
    return json.dumps([asdict(model) for model in models], indent=2, ensure_ascii=False)


def _listed(name: str, settings: Settings) -> ListedModel:
    try:
        model = zoo.find(name, settings)
    except AxforgeError as error:
        return ListedModel(name, "?", error.what, ready=False, compiled=(), description="", license="", own=True)
    raw = model.raw
    text, ready = weights_of(raw.get("source"), settings)
    own = not model.path.is_relative_to(settings.models[-1])
    return ListedModel(
        name=name,
        task=str(raw.get("task") or "-"),
        weights=text,
        ready=ready,
        compiled=compiled_for(model, settings),
        description=str(raw.get("description", "")),
        license=str(raw.get("license", "")),
        own=own,
    )


def compiled_for(model: zoo.ZooModel, settings: Settings) -> tuple[int, ...]:
    """The numbers of cores for which the build folder has a compiled model."""
    root = model.build_folder(settings)
    return tuple(cores for cores in range(1, 5) if (root / str(cores) / "model.axmodel").is_file())


def weights_of(source: object, settings: Settings) -> tuple[str, bool]:
    """Where a network comes from, in words, and whether it can be had as things are."""
    if not isinstance(source, dict):
        return "give them: --onnx PATH", False
    if "url" in source:
        name = str(source["url"]).partition("?")[0].rsplit("/", 1)[-1]
        here = settings.data_root is not None and (settings.data_root / "models" / name).is_file()
        return ("here" if here else f"download: {name}"), True
    needed = [str(path) for path in source.get("reads", ())] + ([str(source["file"])] if "file" in source else [])
    missing = [path for path in needed if not _is_there(path, settings.data_root)]
    if missing and settings.data_root is None:
        return f"needs the data root, for {missing[0]}", False
    if missing:
        return f"not there: {missing[0]}", False
    return ("comes with a package", True) if "builder" in source and not needed else ("here", True)


def _is_there(path: str, root: Path | None) -> bool:
    return Path(path).is_file() if Path(path).is_absolute() else root is not None and (root / path).is_file()
