"""Reports: the cache as a whole, one model, one stored thing, one file. Each gives plain JSON types; `text` makes it readable."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.cache import history, stats
from axforge.cache.digest import hash_file
from axforge.cache.errors import CacheError
from axforge.cache.explain import TreeManifest, manifests
from axforge.cache.key import InputDocument
from axforge.cache.lease import leased
from axforge.cache.record import Record
from axforge.cache.reports import ContentReport, InputReport, ModelReport, OutputReport, Overview, RecordReport, RecordRow, StageRow
from axforge.cache.scan import Entry, contents, entries, references

if TYPE_CHECKING:
    from axforge.cache.store import Store

_TOP = 5


def overview(store: "Store") -> Overview:
    """Totals, hit rate, bytes saved by sharing, largest and oldest entries, and a row for each model and stage."""
    found, stored = entries(store), contents(store)
    counted = stats.read(store.layout.stats)
    on_disk = sum(status.st_size for status in stored.values())
    referred = sum(blob.size for entry in found for blob in entry.record.blobs())
    used = {name for entry in found for name in (blob.sha256 for blob in entry.record.blobs())}
    quarantined = [path for path in store.layout.quarantine.glob("*") if path.suffix != ".why"]
    return {
        "root": str(store.layout.root),
        "writable": store.layout.writable,
        "records": len(found),
        "contents": len(stored),
        "bytes": on_disk,
        "size_limit": store.size_limit,
        "bytes_saved_by_sharing": max(0, referred - sum(stored[name].st_size for name in used if name in stored)),
        "unreferenced": len(set(stored) - used),
        "quarantined": len(quarantined),
        "in_use": len(leased(store.layout.leases)) if store.layout.writable else 0,
        "hits": {"local": counted.local, "remote": counted.remote},
        "ran": counted.ran,
        "hit_rate": round(counted.hit_rate, 4),
        "bytes_restored": counted.bytes_saved,
        "seconds_saved": round(counted.seconds_saved, 3),
        "remote": store.remote.describe() if store.remote is not None else None,
        "largest": [_row(entry) for entry in sorted(found, key=lambda e: (-e.record.size, e.record.key))[:_TOP]],
        "oldest": [_row(entry) for entry in sorted(found, key=lambda e: (e.used, e.record.key))[:_TOP]],
        "models": _by_model(found),
    }


def _row(entry: Entry) -> RecordRow:
    record = entry.record
    return {
        "key": record.key,
        "model": record.label,
        "stage": record.stage,
        "bytes": record.size,
        "used": round(entry.used),
        "seconds": record.provenance.get("seconds"),
    }


def _by_model(found: list[Entry]) -> list[StageRow]:
    rows: dict[tuple[str, str], StageRow] = {}
    for entry in found:
        name = (entry.record.label, entry.record.stage)
        row = rows.setdefault(name, {"model": name[0], "stage": name[1], "records": 0, "bytes": 0, "used": 0, "seconds": 0.0})
        row["records"] += 1
        row["bytes"] += entry.record.size
        row["used"] = max(row["used"], round(entry.used))
        row["seconds"] = round(row["seconds"] + float(entry.record.provenance.get("seconds") or 0), 3)
    return [rows[name] for name in sorted(rows)]


def look(store: "Store", what: str) -> ModelReport | ContentReport | RecordReport:
    """One thing: a file on disk, a hash (or at least 6 of its digits) of a record or content, or a model. CacheError if unknown."""
    found = entries(store)
    if Path(what).is_file():
        content, _ = hash_file(what)
        result = _content(store, content.sha256, found)
        if not result["made_by"] and not result["used_by"]:
            raise CacheError(
                "No record in the cache made or used this content.",
                where=what,
                fix=f"Its SHA-256 is {content.sha256}; it was changed or never built here.",
            )
        return {"file": what, **result}
    if len(what) >= 6 and set(what) <= set("0123456789abcdef"):
        keys = [entry for entry in found if entry.record.key.startswith(what)]
        known = {*contents(store), *references(found), *_input_contents(store, found)}
        names = sorted(name for name in known if name.startswith(what))
        if len(keys) + len(names) > 1:
            raise CacheError(f"{len(keys) + len(names)} stored things begin with {what}.", fix="Give more digits.")
        if keys:
            return _record(store, keys[0], found)
        if names:
            return _content(store, names[0], found)
    return _model(store, what, found)


def _model(store: "Store", label: str, found: list[Entry]) -> ModelReport:
    builds = [(scope, record) for scope, name, record in history.everything(store) if name == label]
    current = {record.key for _, record in builds}
    mine = [entry for entry in found if entry.record.label == label or entry.record.key in current]
    if not mine and not builds:
        names = sorted({entry.record.label for entry in found if entry.record.label})
        near = [name for name in names if label.lower() in name.lower()] or names
        raise CacheError(
            f"{label!r} is not a file, a hash or a model in this cache.",
            fix=f"There are: {', '.join(near[:10])}." if near else "Nothing has been built yet.",
        )
    rows: list[RecordRow] = [{**_row(entry), "last_build": entry.record.key in current} for entry in mine]
    return {
        "model": label,
        "records": sorted(rows, key=lambda row: -row["used"]),
        "last_builds": [
            {"workspace": scope, "stage": record.stage, "key": record.key, "cached": store.record(record.key) is not None}
            for scope, record in builds
        ],
    }


def _makers(name: str, found: list[Entry]) -> list[RecordRow]:
    return [{**_row(entry), "output": output.name} for entry in found for output in entry.record.outputs if output.sha256 == name]


def _users(store: "Store", name: str, found: list[Entry]) -> list[RecordRow]:
    """Records with this content as an input, alone or in a list of files."""
    rows: list[RecordRow] = []
    for entry in found:
        for inp, value in sorted(entry.record.action["inputs"].items()):
            if value.get("sha256") == name:
                rows.append({**_row(entry), "input": inp})
        for inp, manifest in sorted(manifests(store, entry.record).items()):
            rows += [{**_row(entry), "input": f"{inp}/{item}"} for item, content in manifest["items"] if content == name]
    return rows


def _input_contents(store: "Store", found: list[Entry]) -> set[str]:
    lists = [manifests(store, entry.record) for entry in found]
    files = {content for trees in lists for tree in trees.values() for _, content in tree["items"]}
    return files.union(*(_inputs_of(entry.record) for entry in found))


def _content(store: "Store", name: str, found: list[Entry]) -> ContentReport:
    status = contents(store).get(name)
    return {
        "content": name,
        "stored": status is not None,
        "bytes": status.st_size if status is not None else None,
        "made_by": _makers(name, found),
        "used_by": _users(store, name, found),
    }


def _record(store: "Store", entry: Entry, found: list[Entry]) -> RecordReport:
    record = entry.record
    lists = manifests(store, record)
    inputs = [_input(name, value, lists.get(name), found) for name, value in sorted(record.action["inputs"].items())]
    outputs: list[OutputReport] = [
        {"name": o.name, "sha256": o.sha256, "bytes": o.size, "stored": store.blobs.has(blob), "used_by": _users(store, o.sha256, found)}
        for o, blob in zip(record.outputs, record.blobs(), strict=False)
    ]
    return {
        "record": record.key,
        "stage": record.stage,
        "stage_version": record.action["stage_version"],
        "model": record.label,
        "used": round(entry.used),
        "provenance": dict(record.provenance),
        "signature": _signature(store, record),
        "config": record.action["config"],
        "sdk": record.action["sdk"],
        "libraries": record.action["libraries"],
        "inputs": inputs,
        "outputs": outputs,
        "ancestors": _ancestors(record, found),
        "dependents": _dependents(record, found),
        "log": _log(store, record),
    }


def _signature(store: "Store", record: Record) -> str:
    """Who signed a record, and whether it is used here."""
    signed = f"signed by the key {record.signature.key}" if record.signature else "not signed"
    objection = store.objection(record)
    return f"{signed}; it is not used, because it {objection}" if objection else signed


def _input(name: str, value: InputDocument, files: TreeManifest | None, found: list[Entry]) -> InputReport:
    report: InputReport = {"name": name, "made_by": _makers(value["sha256"], found) if "sha256" in value else []}
    if "sha256" in value:
        report["sha256"] = value["sha256"]
    if "tree" in value:
        report["tree"], report["count"] = value["tree"], value["count"]
    if files is not None:
        report["files"] = [file for file, _ in files["items"]]
    return report


def _log(store: "Store", record: Record) -> str | None:
    if record.log is None:
        return None
    try:
        return store.blobs.read(record.log).decode(errors="replace")
    except CacheError as error:
        return f"({error.what})"


def _inputs_of(record: Record) -> set[str]:
    return {value["sha256"] for value in record.action["inputs"].values() if "sha256" in value}


def _walk(start: Record, found: list[Entry], follows: Callable[[Record, Record], bool]) -> list[RecordRow]:
    """Entries reached from a record over `follows(record, entry)`, nearest first."""
    seen, queue = {start.key}, [start]
    rows: list[RecordRow] = []
    while queue:
        record = queue.pop(0)
        for entry in found:
            if entry.record.key not in seen and follows(record, entry.record):
                seen.add(entry.record.key)
                rows.append(_row(entry))
                queue.append(entry.record)
    return rows


def _ancestors(record: Record, found: list[Entry]) -> list[RecordRow]:
    return _walk(record, found, lambda child, other: bool(_inputs_of(child) & {o.sha256 for o in other.outputs}))


def _dependents(record: Record, found: list[Entry]) -> list[RecordRow]:
    return _walk(record, found, lambda parent, other: bool(_inputs_of(other) & {o.sha256 for o in parent.outputs}))


# ---------------------------------------------------------------------- as text


def bytes_text(count: float | None) -> str:
    """1234567 as "1.2 MB"."""
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def age_text(then: float) -> str:
    """How long ago a time was, in words."""
    seconds = max(0.0, time.time() - then)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"


def table(rows: list[list[str]], right: tuple[int, ...] = ()) -> list[str]:
    """Rows (the first is the heading) in columns; columns in `right` are aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
