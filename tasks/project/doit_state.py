"""doit's own memory, made fit for our use: which files changed (by content), and several doit processes at once.

What doit remembers is a hint that saves time; the cache holds what is true. Losing it costs a restore, never a rebuild.
Everything here that leans on doit's insides is held by tests/tasks/test_doit_state.py.
"""

# ruff: noqa: PTH116, PTH123, PTH208

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Protocol, TypedDict

from doit.dependency import FileChangedChecker
from doit.globals import Globals

#: Time stamps tick coarsely: a file changed this shortly before it was looked at may change again under the same stamps.
_TICK_NS = 20_000_000
_PIECE = 1 << 20

#: What shows that a file was not touched: size, mtime and ctime in ns, inode.
Signature = list[int]
#: A file or folder as it was: [Signature or None, content or names, time in ns]; a list, because doit keeps it as JSON.
Snapshot = list[Any]
#: A task as its creator hands it to doit.
TaskDict = dict[str, Any]
#: What doit remembers of a task between runs, as JSON.
Values = dict[str, Any]


class TaskMeta(TypedDict, total=False):
    """What axforge's tasks say to its reporter.

    model, stage: that the task belongs to. explain: say why it ran. announce: called before anything runs. prints: the task prints.
    finishes: what is complete after it. remark: what was said of it when it was last made.
    """

    model: str
    stage: str
    explain: bool
    announce: Callable[[], None] | None
    prints: bool
    finishes: str
    remark: str


class DoitTask(Protocol):
    """What is used of a task of doit (which is not typed)."""

    name: str
    actions: list[object]
    task_dep: list[str]
    values: Values
    meta: TaskMeta | None


def signature(status: os.stat_result) -> Signature:
    """What shows that a file was not touched."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def settled(stamps: Signature, when: int) -> bool:
    """Whether any change after `when` (ns) must show in the stamps of a file."""
    return max(stamps[1], stamps[2]) < when - _TICK_NS


def content(path: str) -> str:
    """xxh3-128 of a file, hex: finds changes, and is never believed by anybody else."""
    import xxhash  # costs 4 ms, which a build with nothing to do need not pay

    digest = xxhash.xxh3_128()
    view = memoryview(bytearray(_PIECE))
    with open(path, "rb", buffering=0) as stream:
        while count := stream.readinto(view):
            digest.update(view[:count])
    return str(digest.hexdigest())


def snapshot(path: str) -> Snapshot:
    """A file or folder as it is now: [signature, content, when]. A folder's content is the names in it; of nothing, None."""
    now = time.time_ns()
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return [None, None, now]
    return [signature(status), sorted(os.listdir(path)) if S_ISDIR(status.st_mode) else content(path), now]


def settled_snapshots(paths: Iterable[Path]) -> dict[str, Snapshot]:
    """Snapshots of files that were published just now, taken when their stamps have become certain (after a few ms).

    Otherwise every later question about them would have to read them.
    """
    names = [str(path) for path in paths]
    newest = max((os.stat(name).st_ctime_ns for name in names), default=0)
    wait = newest + _TICK_NS + 1 - time.time_ns()
    if 0 < wait <= _TICK_NS + 1:
        time.sleep(wait / 1e9)
    return {name: snapshot(name) for name in names}


def same(path: str, before: Snapshot, status: os.stat_result | None = None) -> bool:
    """Whether what is at `path` still has the content of `before`, a snapshot. Reads it only when its stamps leave a doubt."""
    try:
        status = status or os.stat(path)
        if before[0] is None:
            return False
        if S_ISDIR(status.st_mode):
            return sorted(os.listdir(path)) == before[1]
        if status.st_size != before[0][0]:
            return False
        certain = settled(before[0], before[2])
        return (certain and signature(status) == before[0]) or content(path) == before[1]
    except FileNotFoundError:
        return before[0] is None
    except OSError:
        return False


class Question:
    """An `uptodate` condition of a task; `doit info` shows its text."""

    def __init__(self, text: str, answer: Callable[[DoitTask, Values], bool]) -> None:
        self.text, self.answer = text, answer

    def __call__(self, task: DoitTask, values: Values) -> bool:
        """Whether the task is up to date in this respect."""
        return self.answer(task, values)

    def __repr__(self) -> str:
        return self.text


class ContentChecker(FileChangedChecker):  # type: ignore[misc]
    """doit's question "did this file change?", answered by stamps where they are certain and by xxh3 where not."""

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: Snapshot) -> bool:
        """Whether the content differs from `state`."""
        return not same(file_path, state, file_stat)

    def get_state(self, dep: str, current_state: Snapshot | None) -> Snapshot | None:
        """The state to remember; None when it is what is remembered."""
        if current_state and current_state[0] == signature(os.stat(dep)) and same(dep, current_state):
            return None
        return snapshot(dep)


def remember(task: DoitTask, values: Values) -> None:
    """Have doit remember other values of a task that it does not run, because they say the same."""
    if Globals.dep_manager is not None:
        Globals.dep_manager.backend.set(task.name, "_values_:", values)


def prepare_state() -> None:
    """Set up doit's memory of this run."""
    _share_with_other_processes()
    _forget_runs()


def _forget_runs() -> None:
    """Remember nothing of `infer:` tasks: they always run, and their names may hold the user and password of a camera."""
    manager = Globals.dep_manager
    if manager is None or hasattr(manager, "remembers"):
        return
    manager.remembers = manager.save_success

    def save_success(task: DoitTask, *more: object, **named: object) -> None:
        if not task.name.startswith("infer:"):
            manager.remembers(task, *more, **named)

    manager.save_success = save_success


def _share_with_other_processes() -> None:
    """Let several doit processes use one state file: wait for each other, and hold its lock no longer than one statement.

    doit deletes a failed task's row at once but commits at the end of the run, which would lock out everybody else till then.
    """
    connection = getattr(getattr(Globals.dep_manager, "backend", None), "_conn", None)
    if connection is not None:
        connection.execute("pragma busy_timeout = 60000")
        connection.isolation_level = None
