"""Two records side by side: what decided each, and which of the files that they gave differ."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from axforge.cache.errors import CacheError
from axforge.cache.explain import Change, compare, manifests
from axforge.cache.inspect import bytes_text
from axforge.cache.key import is_hash
from axforge.cache.record import Output, Record
from axforge.cache.reports import DiffReport
from axforge.cache.scan import entries

if TYPE_CHECKING:
    from axforge.cache.store import Store


@dataclass(frozen=True)
class RecordDiff:
    """changes: of inputs, configuration and versions, from `before` to `after`. outputs: names whose content differs or is in one only."""

    before: Record
    after: Record
    changes: tuple[Change, ...]
    outputs: tuple[str, ...]

    def lines(self) -> list[str]:
        """The differences as lines for people."""
        lines = [f"- {_named(self.before)}", f"+ {_named(self.after)}"]
        if not self.changes:
            lines.append("  the same action: nothing that decides its bytes differs")
        lines += [f"  {change.line()}" for change in self.changes]
        lines += [f"  {name}: {_shown(self.before, name)} → {_shown(self.after, name)}" for name in self.outputs]
        return lines if self.outputs else [*lines, "  both gave the same bytes"]

    def to_json(self) -> DiffReport:
        """The same as plain JSON types."""
        return {
            "before": self.before.key,
            "after": self.after.key,
            "changes": [change.to_json() for change in self.changes],
            "outputs": list(self.outputs),
        }


def diff(store: "Store", one: str, other: str) -> RecordDiff:
    """What differs from record `one` to record `other`, each a key or at least 6 digits of it. CacheError for one that nobody has.

    A record that is not in this cache is asked of the remote, which needs the whole key.
    """
    before, after = _record(store, one), _record(store, other)
    changes = compare(before.action, after.action, manifests(store, before), manifests(store, after))
    names = sorted({output.name for output in (*before.outputs, *after.outputs)})
    return RecordDiff(before, after, changes, tuple(name for name in names if _content(before, name) != _content(after, name)))


def _record(store: "Store", text: str) -> Record:
    found = [entry.record for entry in entries(store) if entry.record.key.startswith(text)] if len(text) >= 6 else []
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise CacheError(f"{len(found)} records begin with {text!r}.", fix="Give more digits.")
    record = store.remote.peek(store, text) if store.remote is not None and is_hash(text) else None
    if record is None:
        where = "in this cache" if store.remote is None else "in this cache, nor in the remote one, which needs all 64 digits"
        raise CacheError(f"There is no record {text!r} {where}.", fix="`inspect MODEL` lists the keys of a model; 6 digits or more.")
    return record


def _content(record: Record, name: str) -> Output | None:
    return next((output for output in record.outputs if output.name == name), None)


def _shown(record: Record, name: str) -> str:
    found = _content(record, name)
    return f"{found.sha256[:12]}… ({bytes_text(found.size)})" if found is not None else "none"


def _named(record: Record) -> str:
    seconds, host = record.provenance.get("seconds", "?"), record.provenance.get("host", "?")
    return f"{record.stage} {record.label or '-'} ({record.key[:12]}…, {seconds} s on {host})"
