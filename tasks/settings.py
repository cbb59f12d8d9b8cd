"""Where things are for this run: the project, the build folder, the data, the models. Light to import."""

import os
from dataclasses import dataclass
from pathlib import Path

#: Environment variables a user may set; the options of the same name (--build-root, --data-root) win.
BUILD_ROOT, DATA_ROOT = "AXFORGE_BUILD_ROOT", "AXFORGE_DATA_ROOT"
#: Folders of models to look in first, separated as in PATH.
MODELS = "AXFORGE_MODELS"
#: Address of a Dask scheduler whose workers compile and measure; the option `--cluster` wins.
CLUSTER = "AXFORGE_CLUSTER"


@dataclass(frozen=True)
class Settings:
    """project: folder of the dodo.py. typed_in: the folder where the command was typed, which relative paths are relative to.

    build_root: where results go. data_root: where models and data sets lie that a descriptor names by relative path; None if not told.
    models: folders with one folder a model, the first wins. cluster: address of a scheduler, '' for none.
    builders: modules beside axforge's own whose functions a model.json may name as its source.
    """

    project: Path
    typed_in: Path
    build_root: Path
    data_root: Path | None
    models: tuple[Path, ...]
    cluster: str = ""
    builders: frozenset[str] = frozenset()

    @property
    def code_memory(self) -> Path:
        """The file that remembers which modules decide what (see tasks.stages.code)."""
        return self.build_root / ".doit-code.json"

    def typed(self, path: str) -> Path:
        """A path as the user typed it, absolute."""
        return Path(os.path.normpath(self.typed_in / Path(path).expanduser()))


_MODELS: list[Path] = []
_BUILDERS: set[str] = set()
_OVERRIDES: dict[str, str] = {}
_TYPED_IN: list[Path] = []


def models_in(*folders: str | Path) -> None:
    """For a dodo.py of another project: take models from these folders (before those that come with axforge)."""
    _MODELS[:] = [Path(folder).absolute() for folder in folders]


def allow_builders(*modules: str) -> None:
    """For a dodo.py of another project: functions of these modules may build models (`"source": {"builder": "module:function"}`)."""
    _BUILDERS.update(modules)


def override(*, build_root: str = "", data_root: str = "", typed_in: Path | None = None) -> None:
    """What a front end's options say; stronger than the environment."""
    _OVERRIDES.update({key: value for key, value in ((BUILD_ROOT, build_root), (DATA_ROOT, data_root)) if value})
    if typed_in is not None:
        _TYPED_IN[:] = [typed_in]


def zoo_folder() -> Path:
    """The folder of the models that come with axforge."""
    return Path(__file__).resolve().parent.parent / "ax_models"


def current() -> Settings:
    """The settings of this process (doit has already changed into the folder of the dodo.py)."""
    project = Path.cwd()
    typed_in = _TYPED_IN[0] if _TYPED_IN else _initial_workdir() or project
    build = _value(BUILD_ROOT)
    data = _value(DATA_ROOT)
    told = [_absolute(typed_in, folder) for folder in os.environ.get(MODELS, "").split(os.pathsep) if folder]
    folders = dict.fromkeys([*told, *_MODELS, zoo_folder()])
    return Settings(
        project=project,
        typed_in=typed_in,
        build_root=_absolute(typed_in, build) if build else project / "build",
        data_root=_absolute(typed_in, data) if data else None,
        models=tuple(folders),
        cluster=os.environ.get(CLUSTER, ""),
        builders=frozenset(_BUILDERS),
    )


def _value(name: str) -> str:
    return _OVERRIDES.get(name) or os.environ.get(name, "")


def _absolute(base: Path, path: str) -> Path:
    return Path(os.path.normpath(base / Path(path).expanduser()))


def _initial_workdir() -> Path | None:
    from doit import get_initial_workdir

    initial = get_initial_workdir()
    return Path(initial) if initial else None
