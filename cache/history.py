"""The last build of each stage in each workspace: what `explain` compares with. Private to one user on one host; losing it is harmless.

index/last/<32 hex of sha256(scope, label, stage)> = canonical JSON of [scope, label, key] "\\n" record file (see cache.record)
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.cache.digest import sha256
from axforge.cache.disk import unique_name, write_bytes
from axforge.cache.errors import CacheError
from axforge.cache.key import canonical
from axforge.cache.record import Record, parse

if TYPE_CHECKING:
    from axforge.cache.store import Store


def _file(index: Path, scope: str, label: str, stage: str) -> Path:
    return index / "last" / sha256(canonical([scope, label, stage]))[:32]


def last(store: "Store", scope: str, label: str, stage: str) -> Record | None:
    """Record of the last build of a stage of `label` in workspace `scope`; None if there was none."""
    try:
        return _parse(_file(store.index, scope, label, stage).read_bytes())[2]
    except (OSError, CacheError, ValueError):
        return None  # absent or damaged: there is nothing to compare with


def _parse(data: bytes) -> tuple[str, str, Record]:
    head, _, rest = data.partition(b"\n")
    scope, label, key = json.loads(head)
    return str(scope), str(label), parse(rest, str(key))


def everything(store: "Store") -> list[tuple[str, str, Record]]:
    """(scope, label, record) of all last builds of this user on this host, sorted."""
    found = []
    for file in (store.index / "last").glob("[0-9a-f]*"):
        try:
            found.append(_parse(file.read_bytes()))
        except (OSError, CacheError, ValueError):
            continue
    return sorted(found, key=lambda item: (item[0], item[1], item[2].stage))


def remember(store: "Store", scope: str, label: str, record: Record) -> None:
    """Note a build as the last one. Not noted, and no error, where it cannot be written."""
    file = _file(store.index, scope, label, record.stage)
    temporary = file.with_name(f".{unique_name()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(temporary, canonical([scope, label, record.key]) + b"\n" + record.to_bytes())
        os.replace(temporary, file)
    except OSError:
        return
