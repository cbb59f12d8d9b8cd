"""Which records belong together: the stages of a model as it was last built, and what each of them came from."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from axforge.cache import history
from axforge.cache.errors import CacheError
from axforge.cache.record import Record
from axforge.cache.scan import Entry, entries

if TYPE_CHECKING:
    from axforge.cache.store import Store


def lineage(store: "Store", names: Iterable[str]) -> dict[str, Record]:
    """By key: the records that `names` mean and all that made their inputs. A name is a model or a key (6 digits or more).

    Of a model: its last builds here, or, if there were none, its newest record of each stage. CacheError for a name that means none.
    """
    found = entries(store)
    makers = _makers(found)
    waiting = [record for name in names for record in _meant(store, name, found)]
    chosen: dict[str, Record] = {}
    while waiting:
        record = waiting.pop()
        if record.key not in chosen:
            chosen[record.key] = record
            contents = [value["sha256"] for value in record.action["inputs"].values() if "sha256" in value]
            waiting += [makers[content] for content in contents if content in makers]
    return chosen


def _makers(found: list[Entry]) -> dict[str, Record]:
    """The record that made a content, by its SHA-256; of several the one used last."""
    ordered = sorted(found, key=lambda entry: (entry.used, entry.record.key))
    return {output.sha256: entry.record for entry in ordered for output in entry.record.outputs}


def _meant(store: "Store", name: str, found: list[Entry]) -> list[Record]:
    by_key = {entry.record.key: entry.record for entry in found}
    keys = [key for key in by_key if len(name) >= 6 and key.startswith(name)]
    if len(keys) == 1:
        return [by_key[keys[0]]]
    built = [record.key for _, label, record in history.everything(store) if label == name]
    if chosen := [by_key[key] for key in built if key in by_key]:
        return chosen
    labelled = sorted((record for record in by_key.values() if record.label == name), key=_started)
    newest = {record.stage: record for record in labelled}
    if not newest:
        names = sorted({record.label for record in by_key.values()} - {""})
        fix = f"There are: {', '.join(names[:10])}." if names else "Nothing has been built yet."
        raise CacheError(f"{name!r} is no model and no single record in this cache.", fix=fix)
    return list(newest.values())


def _started(record: Record) -> tuple[float, str]:
    return float(record.provenance.get("started") or 0), record.key
