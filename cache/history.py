"""The last build of each stage in each workspace: what `explain` compares with. Private to one user on one host; losing it is harmless.

index/last/<32 hex of sha256(scope, label, stage)> = record file (see cache.record) of the action that was built last
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cache.digest import sha256
from cache.disk import unique_name
from cache.errors import CacheError
from cache.key import canonical
from cache.record import Record, parse

if TYPE_CHECKING:
    from cache.store import Store


def _file(index: Path, scope: str, label: str, stage: str) -> Path:
    return index / "last" / sha256(canonical([scope, label, stage]))[:32]


def last(store: "Store", scope: str, label: str, stage: str) -> Record | None:
    """Record of the last build of a stage of `label` in workspace `scope`; None if there was none."""
    try:
        data = _file(store.index, scope, label, stage).read_bytes()
        key, _, rest = data.partition(b"\n")
        return parse(rest, key.decode())
    except (OSError, CacheError, UnicodeDecodeError):
        return None  # absent or damaged: there is nothing to compare with


def remember(store: "Store", scope: str, label: str, record: Record) -> None:
    """Note a build as the last one. Not noted, and no error, where it cannot be written."""
    file = _file(store.index, scope, label, record.stage)
    temporary = file.with_name(f".{unique_name()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(record.key.encode() + b"\n" + record.to_bytes())
        os.replace(temporary, file)
    except OSError:
        return
