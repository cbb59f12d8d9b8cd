"""DOIT_CONFIG, and what must be set up before doit makes tasks."""

import atexit
import sys
from pathlib import Path
from types import TracebackType

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.output import flush_output, keep_streams_open
from axforge.tasks.project import task_help
from axforge.tasks.project.command_line import encoded
from axforge.tasks.project.doit_database import heal
from axforge.tasks.project.doit_state import ContentChecker
from axforge.tasks.project.failures import stop, stop_at_mistakes
from axforge.tasks.project.settings import PROJECT
from axforge.tasks.screen.reporter import Reporter


def doit_config() -> dict[str, object]:
    """doit's configuration for the command line as it was typed."""
    with stop_at_mistakes():
        return _config()


def _config() -> dict[str, object]:
    sys.excepthook = _quiet_interrupt
    keep_streams_open()
    atexit.register(flush_output)
    if group := PROJECT.help_wanted():
        print("\n".join(task_help.lines(group)))
        raise SystemExit(0)
    typed, here = PROJECT.command_line, PROJECT.settings()
    _make(here.build_root)
    heal(here.build_root / ".doit.sqlite")
    alone = [task for task in typed.tasks if task not in typed.swallowed]
    if typed.swallowed and alone:
        stop(
            f"doit takes words with '=' for variables, so {typed.swallowed[0]!r} cannot be used together with {alone[0]!r}.\n"
            f"  Run doit once for each, or use ./inference.py."
        )
    default = [encoded(task) for task in typed.swallowed] or (["compile"] if typed.command == "clean" else ["usage"])
    return {
        "backend": "sqlite3",
        "dep_file": str(here.build_root / ".doit.sqlite"),
        "check_file_uptodate": ContentChecker,
        "reporter": Reporter,
        "default_tasks": default,
        "verbosity": 0,
        "continue": typed.everything(),  # of a whole group, one model's failure does not keep the others from being built
    }


def _make(build_root: Path) -> None:
    try:
        build_root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "Name another folder with --build-root or AXFORGE_BUILD_ROOT."
        raise AxforgeError(f"the build folder cannot be made: {error.strerror}", where=str(build_root), fix=fix) from error


def _quiet_interrupt(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("\nStopped. What was finished is kept.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
