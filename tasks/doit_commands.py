"""doit's commands `list`, `info`, `help` and `zoo`, for people who work with models. A project's pyproject.toml turns them on:

[tool.doit.plugins.command]
list = "axforge.tasks.doit_commands:List"
info = "axforge.tasks.doit_commands:Info"
help = "axforge.tasks.doit_commands:Help"
zoo = "axforge.tasks.doit_commands:Zoo"
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from doit import get_initial_workdir
from doit.cmd_base import Command as DoitCommand
from doit.cmd_help import Help as DoitHelp
from doit.cmd_info import Info as DoitInfo
from doit.cmd_list import List as DoitList

from axforge.tasks import describing, listing
from axforge.tasks.project import task_help, zoo
from axforge.tasks.project.failures import stop_at_mistakes
from axforge.tasks.project.settings import PROJECT
from axforge.usage import Parser


class List(DoitList):  # type: ignore[misc]
    """`doit list`: the tasks, and a table of models. With options or names it is doit's own."""

    def _execute(  # doit gives each option that is named here
        self,
        subtasks: bool = False,
        quiet: bool = True,
        status: bool = False,
        private: bool = False,
        list_deps: bool = False,
        template: str | None = None,
        sort: str = "name",
        pos_args: list[str] | None = None,
    ) -> int:
        with stop_at_mistakes():
            code = int(super()._execute(subtasks, quiet, status, private, list_deps, template, sort, pos_args))
            if not (subtasks or pos_args or status or list_deps or template):
                print()
                listing.show(listing.listed(PROJECT.settings()))
                print("doit list --all shows their stages; doit info MODEL all about one")
        return code


class Info(DoitInfo):  # type: ignore[misc]
    """`doit info MODEL` and `doit info compile:MODEL`: the model; of another task what it reads and writes, and why it would run."""

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> int:
        if len(pos_args) != 1:
            return int(super()._execute(pos_args, hide_status=hide_status))
        tasks = {task.name: task for task in self.task_list}
        named = pos_args[0]
        model = named.removeprefix("compile:")
        with stop_at_mistakes():
            here = PROJECT.settings()
            if named not in tasks or (named != model and model in zoo.names(here)):
                print("\n".join(describing.lines(model, here)))
                return 0
        if not tasks[named].meta:
            return int(super()._execute(pos_args, hide_status=hide_status))
        with stop_at_mistakes():
            print("\n".join(self._lines(tasks[named], tasks)))
        return 0

    def _lines(self, task: Any, tasks: dict[str, Any]) -> Iterator[str]:
        yield f"{task.name}: {task.doc}"
        status = self.dep_manager.get_status(task, tasks, get_log=True)
        yield f"\nwould run: {'no, it is up to date' if status.status == 'up-to-date' else 'yes'}"
        if reasons := self.get_reasons(status.reasons):
            yield re.sub(r" \(args=.*\)$", "", reasons, flags=re.MULTILINE)
        for title, names in (("needs", task.task_dep), ("reads", task.file_dep), ("writes", task.targets)):
            if names:
                yield "\n".join([f"\n{title}:", *(f"  {name}" for name in sorted(names))])


class Zoo(DoitCommand):  # type: ignore[misc]
    """`doit zoo list|show|fetch|check`: the table of published networks. Its words are not doit's, so it reads them itself."""

    name = "zoo"
    doc_purpose = "published networks: list, show, fetch, check"
    doc_usage = "list|show|fetch|check"
    doc_description = None

    def parse_execute(self, in_args: list[str]) -> int:
        """Do what the words say; gives the exit status."""
        from axforge.tasks.published_commands import ACTIONS  # other commands need no table

        parser = Parser(prog="doit zoo", description="Published networks.")
        actions = parser.add_subparsers(dest="action", metavar="list|show|fetch|check", required=True)
        for name, action in ACTIONS.items():
            action.add(actions.add_parser(name, help=action.help, description=action.help))
        options = parser.parse_args(in_args)
        PROJECT.start([], Path(get_initial_workdir() or Path.cwd()))
        with stop_at_mistakes():
            return ACTIONS[options.action].run(options, PROJECT.settings(), _run_tasks)


def _run_tasks(names: Sequence[str]) -> int:
    """Run tasks of this project, with its dodo.py, in a process of their own."""
    return subprocess.run([sys.executable, "-m", "doit", *names], check=False).returncode


class Help(DoitHelp):  # type: ignore[misc]
    """`doit help compile`: how the tasks of a group are used, with their options."""

    def _execute(self, pos_args: list[str]) -> bool:
        text = task_help.lines(pos_args[0].partition(":")[0])
        with stop_at_mistakes():
            if not text:
                return bool(super()._execute(pos_args))
            print("\n".join(text))
        return True
