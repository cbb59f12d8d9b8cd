"""Runs tasks as doit would, in this process, in the user's project."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from doit.loader import get_module

from axforge import tasks
from axforge.axcompiler.errors import AxforgeError
from axforge.tasks.project import command_line, settings
from axforge.tasks.project.project_file import DODO, find_project, uses_our_tasks
from axforge.tasks.project.settings import Settings


class UserProject:
    """The project that the command was typed in. Making one changes into its folder. Raises AxforgeError where nothing may be written.

    options: fields that have the name of an option of the tasks are given to them.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.typed_in = Path.cwd()
        self.folder = find_project(self.typed_in)
        if is_installed(self.folder):
            fix = "Change into a folder of your own."
            raise AxforgeError(
                "This folder is part of the installed axforge, and nothing is written there.", where=str(self.folder), fix=fix
            )
        os.chdir(self.folder)
        said = vars(options)
        self._variables = [f"{o.variable}={value}" for o in command_line.ALL_OPTIONS if (value := said.get(o.name, ""))]
        settings.PROJECT.start(self._variables, self.typed_in)

    def settings(self) -> Settings:
        """Where things are, with what the project's dodo.py says of its models. Raises AxforgeError."""
        self._namespace()
        return settings.PROJECT.settings()

    def run(self, words: Sequence[str], jobs: int = 0) -> int:
        """Run these tasks; returns the exit status."""
        settings.PROJECT.start([*self._variables, *words], self.typed_in)
        return self._doit(["run", *(["-n", str(jobs)] if jobs > 1 else []), *map(command_line.encoded, words)])

    def list_tasks(self) -> int:
        """Print every task there is, as doit does; returns the exit status."""
        words = ["list", "--all"]
        settings.PROJECT.start([*words, *self._variables], self.typed_in)
        return self._doit(words)

    def _doit(self, words: Sequence[str]) -> int:
        namespace = self._namespace()
        namespace.setdefault("DOIT_CONFIG", tasks.DOIT_CONFIG)
        return int(DoitMain(ModuleTaskLoader(namespace), config_filenames=()).run(list(words)) or 0)

    def _namespace(self) -> dict[str, object]:
        """The names of the project's dodo.py, if it uses our tasks, and our tasks where it has none of that name."""
        ours: dict[str, object] = {name: getattr(tasks, name) for name in tasks.__all__ if name != "DOIT_CONFIG"}
        if uses_our_tasks(self.folder):
            sys.modules.pop(Path(DODO).stem, None)  # its DOIT_CONFIG depends on what is to be run
            ours |= vars(get_module(str(self.folder / DODO)))
        return ours


def is_installed(folder: Path) -> bool:
    """Whether a folder is inside an installed axforge, and not in a clone of its repository."""
    package = settings.zoo_folder().resolve().parent
    return "site-packages" in package.parts and folder.resolve().is_relative_to(package)
