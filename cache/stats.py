"""Counters that many processes add to: one appended line an event, folded together when they are read in order to clean.

line = unix-seconds " " event " " bytes " " seconds " " stage " " label "\\n"        event = "local" | "remote" | "ran"
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from axforge.cache.digest import open_regular
from axforge.cache.disk import host, unique_name, write_bytes


@dataclass
class Counters:
    """What happened so far: hits by tier, runs, bytes and seconds that hits saved."""

    local: int = 0
    remote: int = 0
    ran: int = 0
    bytes_saved: int = 0
    seconds_saved: float = 0.0

    @property
    def hit_rate(self) -> float:
        """Hits among all actions, 0 to 1."""
        total = self.local + self.remote + self.ran
        return (self.local + self.remote) / total if total else 0.0

    def add(self, event: str, size: int, seconds: float) -> None:
        """Count one event."""
        if event == "ran":
            self.ran += 1
            return
        if event == "remote":
            self.remote += 1
        else:
            self.local += 1
        self.bytes_saved += size
        self.seconds_saved += seconds


def note(folder: Path, event: str, size: int, seconds: float, stage: str, label: str) -> None:
    """Add one event. Lost, not raised, if it cannot be written: counters decide nothing."""
    line = f"{int(time.time())} {event} {size} {seconds:.3f} {stage} {' '.join(label.split())}\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # no link and no pipe is followed
    try:
        handle = os.open(folder / host(), flags, 0o666)
    except OSError:
        return
    try:
        os.write(handle, line.encode()[:1024])
    except OSError:
        return
    finally:
        os.close(handle)


def _text(path: Path) -> str:
    """The content of a file; nothing where there is none, or something that is not a file."""
    try:
        with open_regular(path) as stream:
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


def _events(path: Path) -> Iterator[tuple[str, int, float]]:
    for line in _text(path).splitlines():
        words = line.split(" ")
        try:
            if words[1] in ("local", "remote", "ran"):
                yield words[1], int(words[2]), float(words[3])
        except (ValueError, IndexError):
            continue  # half a line, from a process that was killed


def read(folder: Path) -> Counters:
    """Sum over all hosts."""
    total = Counters()
    for path in sorted(folder.glob("*")):
        if path.suffix == ".total":
            _add_total(total, path)
        elif not path.name.startswith("."):
            for event in _events(path):
                total.add(*event)
    return total


def _add_total(total: Counters, path: Path) -> None:
    try:
        data = json.loads(_text(path))
        for name in asdict(total):
            setattr(total, name, getattr(total, name) + type(getattr(total, name))(data[name]))
    except (ValueError, KeyError, TypeError):
        return  # damaged: counting starts again


def fold(folder: Path) -> None:
    """Replace all lines by their sum. Only while the store's lock is held exclusively."""
    total = read(folder)
    temporary = folder / f".{unique_name()}"
    write_bytes(temporary, json.dumps(asdict(total), sort_keys=True).encode())
    for path in sorted(folder.glob("*")):
        if not path.name.startswith("."):
            path.unlink(missing_ok=True)
    os.replace(temporary, folder / "all.total")


def reset(folder: Path) -> None:
    """Start counting at zero."""
    for path in folder.glob("*"):
        path.unlink(missing_ok=True)
