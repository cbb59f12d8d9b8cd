"""Removing what is not wanted, never what a running build uses; and keeping the size limit.

While the store's lock is held exclusively nobody is in the middle of storing, so a content that no record refers to is garbage.
Where the file system has no locks, contents younger than an hour are left alone instead.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.cache import stats
from axforge.cache.digest import open_regular
from axforge.cache.disk import write_bytes
from axforge.cache.errors import CacheError
from axforge.cache.lease import leased
from axforge.cache.lock import acquire, is_held
from axforge.cache.reports import CleanReport
from axforge.cache.scan import Entry, contents, entries

if TYPE_CHECKING:
    from axforge.cache.store import Store

#: Unreferenced contents and unfinished files younger than this stay where there are no locks; seconds.
GRACE = 3600.0
#: Quarantined files are kept this long; seconds.
QUARANTINE = 7 * 86400.0
#: Cleaning for the size limit goes down to this part of it, so that it is not needed again at once.
LOW_MARK = 0.8


@dataclass(frozen=True)
class Wanted:
    """What to remove. older_than: seconds since last use. keep_size: bytes to keep, least recently used go first. model: label.

    unreachable: only contents without a record and records without their contents. all: everything.
    """

    older_than: float | None = None
    keep_size: int | None = None
    model: str | None = None
    unreachable: bool = False
    all: bool = False

    def is_empty(self) -> bool:
        """Whether nothing was asked for."""
        return self == Wanted()


@dataclass
class Report:
    """What was removed (or would be): records, contents, their bytes; kept_in_use: records that running builds use."""

    records: list[Entry] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    leftovers: int = 0
    bytes: int = 0
    bytes_left: int = 0
    kept_in_use: int = 0
    dry_run: bool = False

    def to_json(self) -> CleanReport:
        """The report as plain JSON types."""
        by_model: dict[str, dict[str, int]] = {}
        for entry in self.records:
            stages = by_model.setdefault(entry.record.label or "(no label)", {})
            stages[entry.record.stage] = stages.get(entry.record.stage, 0) + 1
        return {
            "records": len(self.records),
            "contents": len(self.contents),
            "leftovers": self.leftovers,
            "bytes": self.bytes,
            "bytes_left": self.bytes_left,
            "kept_in_use": self.kept_in_use,
            "dry_run": self.dry_run,
            "by_model": by_model,
        }


def clean(store: "Store", wanted: Wanted, *, dry_run: bool = False, wait: bool = True) -> Report | None:
    """Remove what is wanted. None if `wait` is False and the cache is in use just now. CacheError when it cannot be written."""
    layout = store.layout
    if not layout.writable:
        raise CacheError(f"cannot be written ({layout.reason}), so nothing can be removed.", where=str(layout.root))

    def waiting() -> None:
        store.warn("Waiting until running builds have finished reading or storing.")

    lock = acquire(layout.lock("store"), wait=wait, waiting=waiting)
    if lock is None and not wait:
        return None
    try:
        return _clean(store, wanted, dry_run, locked=lock is not None)
    except OSError as error:
        raise CacheError(f"could not be cleaned: {error.strerror or error}.", where=str(error.filename or layout.root)) from error
    finally:
        if lock is not None:
            os.close(lock)


def _clean(store: "Store", wanted: Wanted, dry_run: bool, *, locked: bool) -> Report:
    now = time.time()
    found, stored, in_use = entries(store), contents(store), leased(store.layout.leases)
    chosen = _chosen(found, stored, wanted, now)
    report = Report([entry for entry in chosen if entry.record.key not in in_use], dry_run=dry_run)
    report.kept_in_use = len(chosen) - len(report.records)
    gone = {entry.record.key for entry in report.records}
    needed = {blob.sha256 for entry in found if entry.record.key not in gone for blob in entry.record.blobs()}
    fresh = 0.0 if locked else GRACE
    report.contents = [name for name in stored if name not in needed and (locked or now - stored[name].st_mtime > fresh)]
    report.bytes = sum(stored[name].st_size for name in report.contents) + sum(entry.file_size for entry in report.records)
    total = sum(status.st_size for status in stored.values()) + sum(entry.file_size for entry in found)
    report.bytes_left = total - report.bytes
    if not dry_run:  # records first: one that is left must never lack its contents
        _remove(store.layout.record(entry.record.key) for entry in report.records)
        _remove(store.layout.blob(name) for name in report.contents)
        stats.fold(store.layout.stats)
        _note_usage(store, report.bytes_left)
    report.leftovers = _leftovers(store, now, dry_run, everything=wanted.all, locked=locked)
    return report


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _chosen(found: list[Entry], stored: dict[str, os.stat_result], wanted: Wanted, now: float) -> list[Entry]:
    """Records to remove. --model narrows the other conditions down; alone it means all records of that model."""
    pool = [entry for entry in found if wanted.model is None or entry.record.label == wanted.model]
    if wanted.all or (wanted.model is not None and wanted.older_than is None and wanted.keep_size is None and not wanted.unreachable):
        return pool
    chosen: dict[str, Entry] = {}

    def choose(condition: Callable[[Entry], bool]) -> None:
        chosen.update({entry.record.key: entry for entry in pool if condition(entry)})

    if wanted.unreachable:
        choose(lambda entry: any(blob.sha256 not in stored for blob in entry.record.contents()))
    if wanted.older_than is not None:
        oldest = now - wanted.older_than
        choose(lambda entry: entry.used < oldest)
    if wanted.keep_size is not None:
        chosen.update({entry.record.key: entry for entry in _least_used(pool, found, stored, wanted.keep_size, set(chosen))})
    return list(chosen.values())


def _least_used(pool: list[Entry], found: list[Entry], stored: dict[str, os.stat_result], keep: int, gone: set[str]) -> list[Entry]:
    """Least recently used records to drop until what is left needs at most `keep` bytes."""
    users: dict[str, int] = {}
    left = [entry for entry in found if entry.record.key not in gone]
    for entry in left:
        for name in {blob.sha256 for blob in entry.record.blobs()}:
            users[name] = users.get(name, 0) + 1
    total = sum(stored[name].st_size for name in users if name in stored) + sum(entry.file_size for entry in left)
    dropped = []
    for entry in sorted((e for e in pool if e.record.key not in gone), key=lambda e: (e.used, e.record.key)):
        if total <= keep:
            break
        dropped.append(entry)
        total -= entry.file_size
        for name in {blob.sha256 for blob in entry.record.blobs()}:
            users[name] -= 1
            if not users[name] and name in stored:
                total -= stored[name].st_size
    return dropped


def _leftovers(store: "Store", now: float, dry_run: bool, *, everything: bool, locked: bool) -> int:
    """Remove what killed processes left behind, unused locks, and old quarantine (all of it if `everything`); how many files."""
    dead = [path for path in sorted(store.layout.tmp.iterdir()) if _is_dead(path, now, locked)]
    dead += [path for path in sorted(store.layout.quarantine.iterdir()) if everything or now - path.stat().st_mtime > QUARANTINE]
    if dry_run:
        return len(dead)
    store.files.forget_gone()
    for path in dead:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for path in sorted(store.layout.locks.iterdir()):
        handle = acquire(path, wait=False) if path.name != "store" else None
        if handle is not None:
            path.unlink(missing_ok=True)
            os.close(handle)
    return len(dead)


def _is_dead(path: Path, now: float, locked: bool) -> bool:
    try:
        old = now - path.lstat().st_mtime > GRACE
    except FileNotFoundError:
        return False
    if path.suffix == ".lock":
        return not is_held(path) or (not locked and old)
    if path.is_dir():
        lock = path.with_name(path.name + ".lock")
        return not is_held(lock) and (lock.exists() or old)
    return locked or old


# ---------------------------------------------------------------------- the size limit


def _usage_file(store: "Store") -> Path:
    return store.layout.base / "usage"


def _note_usage(store: "Store", total: int) -> None:
    temporary = store.layout.temporary()
    write_bytes(temporary, f"{total}\n".encode())
    os.replace(temporary, _usage_file(store))


def _usage(store: "Store", added: int) -> int:
    """Estimate of stored bytes: what the last count gave, and a line for each result since."""
    file = _usage_file(store)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        total = sum(status.st_size for status in contents(store).values())
        _note_usage(store, total)
        return total
    try:
        os.write(handle, f"{added}\n".encode())
    finally:
        os.close(handle)
    with open_regular(file) as stream:
        lines = stream.read().decode("ascii", errors="replace").split()
    return sum(int(line) for line in lines if line.isdigit())


def keep_limit(store: "Store") -> None:
    """After results were stored: clean down below the size limit if it is exceeded. Never an error: it is tried again."""
    limit, added, store.grown = store.size_limit, store.grown, 0
    try:
        if limit is None or not added or _usage(store, added) <= limit:
            return
        report = clean(store, Wanted(keep_size=int(limit * LOW_MARK)), wait=False)
    except (OSError, CacheError) as error:
        store.warn(f"The size limit could not be kept: {error}")
        return
    if report is not None and report.bytes_left > limit:
        store.warn(f"The cache holds {report.bytes_left} bytes, more than its limit of {limit}: running builds use the rest.")
