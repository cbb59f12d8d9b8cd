"""The project of this run and where its things are: the build folder, the data, the models. Light to import."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from doit import get_initial_workdir

from axforge.tasks.project.command_line import CommandLine, read
from axforge.tasks.project.progress import Channel
from axforge.tasks.project.project_file import ProjectFile, read_project
from axforge.tasks.project.task_help import asked_behind_a_task

#: Environment variables a user may set; the options of the same name (--build-root, --data-root) win.
BUILD_ROOT, DATA_ROOT = "AXFORGE_BUILD_ROOT", "AXFORGE_DATA_ROOT"
#: Folders of models to look in first, separated as in PATH.
MODELS = "AXFORGE_MODELS"
#: Address of a Dask scheduler whose workers compile and measure; the option `--cluster` wins.
CLUSTER = "AXFORGE_CLUSTER"


@dataclass(frozen=True)
class Settings:
    """project: folder of the dodo.py. typed_in: the folder where the command was typed, which relative paths are relative to.

    build_root: where results go. data_root: where models and data sets are that a descriptor names by relative path, None if not given.
    models: folders with a folder for each model, the first wins. cluster: address of a scheduler, '' for none.
    builders: modules beside axforge's own whose functions a model.json may name as its source. own_models: those of `models` that belong
    to the project.
    """

    project: Path
    typed_in: Path
    build_root: Path
    data_root: Path | None
    models: tuple[Path, ...]
    cluster: str = ""
    builders: frozenset[str] = frozenset()
    own_models: tuple[Path, ...] = ()

    @property
    def code_memory(self) -> Path:
        """The file that remembers which modules decide what (see tasks.stages.code)."""
        return self.build_root / ".doit-code.json"

    def typed(self, path: str) -> Path:
        """A path as the user typed it, absolute."""
        return Path(os.path.normpath(self.typed_in / Path(path).expanduser()))


class Project:
    """What this process works on, with each fact given once: by the user's dodo.py which models it has and whose code may build models,
    and on the command line what is wanted. channel: where its stages report to.
    """

    def __init__(self) -> None:
        self._models: tuple[Path, ...] = ()
        self._builders: frozenset[str] = frozenset()
        self.only_looks = False  # `axforge check`, which shows all mistakes, runs stages in spite of them
        self._proposed: tuple[Path, ...] = ()
        self._front_end: tuple[Sequence[str], Path] | None = None
        self.channel = Channel()

    def models_in(self, *folders: str | Path) -> None:
        """For a dodo.py of another project: take models from these folders (before those that come with axforge)."""
        self._models = tuple(Path(folder).absolute() for folder in folders)

    def allow_builders(self, *modules: str) -> None:
        """For a dodo.py of another project: functions of these modules may build models (`"source": {"builder": "module:function"}`)."""
        self._builders |= set(modules)

    def propose_in(self, folder: Path) -> None:
        """For a front end: this folder has the descriptor that was proposed for an ONNX that was named on the command line."""
        self._proposed = (folder,)

    def start(self, words: Sequence[str], typed_in: Path) -> None:
        """For a front end: these words are the command line, typed in that folder."""
        self._front_end = (words, typed_in)
        self.__dict__.pop("command_line", None)

    def help_wanted(self) -> str:
        """The group of tasks behind which the user typed `--help`; '' if they did not."""
        return "" if self._front_end else asked_behind_a_task(sys.argv[1:])

    @cached_property
    def command_line(self) -> CommandLine:
        """The command line, understood. Raises AxforgeError."""
        return read(self._front_end[0], by_doit=False) if self._front_end else read(sys.argv[1:])

    def settings(self) -> Settings:
        """Where things are (doit has already changed into the folder of the dodo.py). Raises AxforgeError."""
        project = Path.cwd()
        said = read_project(project)
        typed_in = self._front_end[1] if self._front_end else _initial_workdir() or project
        build = self.command_line.root("build_root") or os.environ.get(BUILD_ROOT, "")
        data = self.command_line.root("data_root") or os.environ.get(DATA_ROOT, "")
        named = [_absolute(typed_in, folder) for folder in os.environ.get(MODELS, "").split(os.pathsep) if folder]
        own = self._models or _own_models(project, said)
        return Settings(
            project=project,
            typed_in=typed_in,
            build_root=_absolute(typed_in, build) if build else project / (said.build_root or "build"),
            data_root=_absolute(typed_in, data) if data else _data_root(project, said, own),
            models=tuple(dict.fromkeys([*self._proposed, *named, *own, zoo_folder()])),
            cluster=os.environ.get(CLUSTER, "") or said.cluster,
            builders=self._builders,
            own_models=own,
        )


#: The project of this process.
PROJECT = Project()
models_in, allow_builders = PROJECT.models_in, PROJECT.allow_builders


def zoo_folder() -> Path:
    """The folder of the models that come with axforge."""
    return Path(__file__).resolve().parents[2] / "ax_models"


def _own_models(project: Path, said: ProjectFile) -> tuple[Path, ...]:
    """The project's folders of models: those that its file names, else models/ where it has one."""
    folders = said.models or (("models",) if (project / "models").is_dir() else ())
    return tuple(_absolute(project, folder) for folder in folders)


def _data_root(project: Path, said: ProjectFile, own: tuple[Path, ...]) -> Path | None:
    """Where relative paths of descriptors begin when the user has not said it: at a project that has models of its own."""
    if said.data_root:
        return _absolute(project, said.data_root)
    return project if own else None


def _absolute(base: Path, path: str) -> Path:
    return Path(os.path.normpath(base / Path(path).expanduser()))


def _initial_workdir() -> Path | None:
    initial = get_initial_workdir()
    return Path(initial) if initial else None
