"""What is in a cache, read as a whole: for reports and for cleaning. Never needed to build."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.cache.key import is_hash
from axforge.cache.record import Record

if TYPE_CHECKING:
    from axforge.cache.store import Store


@dataclass(frozen=True)
class Entry:
    """A record that could be read. used: last use, unix seconds. file_size: of the record itself, bytes."""

    record: Record
    used: float
    file_size: int


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Files in the two-letter folders below, in order of their names; what another process removes meanwhile is left out."""
    try:
        parts = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for part in parts:
        try:
            with os.scandir(folder / part) as listing:
                yield from sorted((entry for entry in listing if is_hash(entry.name)), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue


def entries(store: "Store") -> list[Entry]:
    """All records, by key. Damaged ones are set aside and left out."""
    found = []
    for file in _files(store.layout.ac):
        record = store.record(file.name)
        try:
            status = file.stat()
        except FileNotFoundError:
            continue
        if record is not None:
            found.append(Entry(record, status.st_mtime, status.st_size))
    return found


def contents(store: "Store") -> dict[str, os.stat_result]:
    """Stat of all stored contents, by SHA-256."""
    found = {}
    for file in _files(store.layout.cas):
        try:
            found[file.name] = file.stat()
        except FileNotFoundError:
            continue
    return found


def references(found: list[Entry]) -> dict[str, list[Entry]]:
    """Which entries refer to a content, by its SHA-256."""
    users: dict[str, list[Entry]] = {}
    for entry in found:
        for blob in {blob.sha256 for blob in entry.record.blobs()}:
            users.setdefault(blob, []).append(entry)
    return users
