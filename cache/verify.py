"""Re-hash everything, set aside what is damaged, and say what will be built again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from axforge.cache.digest import hash_once
from axforge.cache.reports import VerifyReport
from axforge.cache.scan import Entry, contents, entries, references

if TYPE_CHECKING:
    from axforge.cache.store import Store


@dataclass
class Verified:
    """checked: contents; bytes. damaged: their names, set aside. records_damaged: set aside too. rebuilt: records that lack contents."""

    checked: int = 0
    bytes: int = 0
    records: int = 0
    damaged: list[str] = field(default_factory=list)
    records_damaged: int = 0
    rebuilt: list[Entry] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.damaged or self.records_damaged or self.rebuilt)

    def to_json(self) -> VerifyReport:
        """The report as plain JSON types."""
        return {
            "checked": self.checked,
            "bytes": self.bytes,
            "records": self.records,
            "damaged": self.damaged,
            "records_damaged": self.records_damaged,
            "rebuilt": [{"key": e.record.key, "stage": e.record.stage, "label": e.record.label} for e in self.rebuilt],
            "sound": self.sound,
        }


def verify(store: "Store", progress: Callable[[int, int], None] | None = None) -> Verified:
    """Check all records and contents by SHA-256. `progress(bytes done, bytes in all)`."""
    result = Verified()
    before = sum(1 for part in store.layout.ac.glob("*/*") if part.is_file()) if store.layout.ac.is_dir() else 0
    found = entries(store)
    result.records, result.records_damaged = len(found), max(0, before - len(found))
    stored = contents(store)
    users = references(found)
    total = sum(status.st_size for status in stored.values())
    for name, status in stored.items():
        if not _is_sound(store, name, users.get(name, [])):
            result.damaged.append(name)
        result.checked += 1
        result.bytes += status.st_size
        if progress is not None:
            progress(result.bytes, total)
    bad = set(result.damaged)
    result.rebuilt = [entry for entry in found if any(blob.sha256 in bad or not store.blobs.has(blob) for blob in entry.record.contents())]
    return result


def _is_sound(store: "Store", name: str, users: list[Entry]) -> bool:
    path = store.layout.blob(name)
    try:
        found = hash_once(path, strong=True)
    except FileNotFoundError:
        return True  # cleaned meanwhile
    except OSError as error:
        store.blobs.set_aside(path, f"it cannot be read: {error.strerror}")
        return False
    sizes = {blob.size for entry in users for blob in entry.record.blobs() if blob.sha256 == name}
    if found.sha256 == name and sizes <= {found.size}:
        return True
    store.blobs.set_aside(path, "its content is not what its name says")
    return False
