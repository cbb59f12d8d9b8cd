"""Why a stage ran: what differs between two actions, against the last build here and against the nearest one in the cache."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, TypedDict

from axforge.cache import history
from axforge.cache.errors import CacheError
from axforge.cache.key import Action, ActionDocument, InputDocument, Json
from axforge.cache.record import Record
from axforge.cache.scan import Entry, entries

if TYPE_CHECKING:
    from axforge.cache.store import Store

#: The inputs of an action, by name.
Inputs = Mapping[str, InputDocument]
#: input name -> manifest of a tree (see cache.key.Tree.manifest), as far as it is known.
Manifests = Mapping[str, "TreeManifest"]


class TreeManifest(TypedDict):
    """The files of a tree: pairs of name and SHA-256."""

    names_matter: bool
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Change:
    """One difference between two actions.

    kind: stage, input, config, sdk, library or outputs. before, after: its values, '' for one that is missing.

    items: for an input of many files, names by what happened to them: added, removed, changed, renamed.
    """

    kind: str
    name: str
    before: str
    after: str
    items: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    noun: str = "file"

    def line(self) -> str:
        """As a sentence fragment: "quantize.scheme: minmax → mse"."""
        if self.items:
            return f"{self.name}: {self._items()}"
        if not self.before:
            return f"{self.name}: new ({self.after})"
        if not self.after:
            return f"{self.name}: gone (was {self.before})"
        return f"{self.name}: {self.before} → {self.after}"

    def _items(self) -> str:
        parts, noun_said = [], False
        for what in ("added", "removed", "changed", "renamed"):
            names = self.items.get(what, ())
            if not names:
                continue
            noun = "" if noun_said else f" {self.noun}{'s' * (len(names) > 1)}"
            noun_said = True
            shown = f" ({', '.join(names[:3])}{', …' * (len(names) > 3)})" if what != "added" or len(names) <= 3 else ""
            parts.append(f"{len(names)}{noun} {what}{shown}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, object]:
        """The same as plain JSON types."""
        return {**asdict(self), "items": {name: list(value) for name, value in self.items.items()}, "line": self.line()}


def compare(
    before: ActionDocument,
    after: ActionDocument,
    before_manifests: Manifests | None = None,
    after_manifests: Manifests | None = None,
    nouns: Mapping[str, str] | None = None,
) -> tuple[Change, ...]:
    """Differences between two actions (as JSON), in the order inputs, configuration, versions."""
    changes = [*_inputs(before["inputs"], after["inputs"], before_manifests or {}, after_manifests or {}, nouns or {})]
    stage = after["stage"]
    flat_before, flat_after = _flat(before["config"], stage), _flat(after["config"], stage)
    changes += _changed_values("config", flat_before, flat_after)
    changes += _changed_values("stage", {f"stage {stage}": _version(before)}, {f"stage {stage}": _version(after)})
    changes += _changed_values("sdk", {"SDK": before["sdk"]}, {"SDK": after["sdk"]})
    changes += _changed_values("library", before["libraries"], after["libraries"])
    changes += _changed_values("outputs", {"outputs": ", ".join(before["outputs"])}, {"outputs": ", ".join(after["outputs"])})
    return tuple(changes)


def _version(action: ActionDocument) -> str:
    return f"{action['stage']} version {action['stage_version']}"


def _changed_values(kind: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    names = sorted(set(before) | set(after))
    return [
        Change(kind, name, str(before.get(name, "")), str(after.get(name, "")))
        for name in names
        if (name in before, before.get(name)) != (name in after, after.get(name)) or type(before.get(name)) is not type(after.get(name))
    ]


def _flat(value: Json, name: str) -> dict[str, str]:
    """Nested configuration as dotted names; lists and scalars are values."""
    if isinstance(value, Mapping) and value:
        return {key: item for part in sorted(value) for key, item in _flat(value[part], f"{name}.{part}").items()}
    return {name: _shown(value)}


def _shown(value: Json) -> str:
    """JSON; texts without quotes, unless they would read as something else ("1" and 1)."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)


def _short(value: InputDocument | None) -> str:
    if value is None:
        return ""
    return f"{value['tree'][:12]}… ({value['count']} files)" if "tree" in value else f"{value['sha256'][:12]}…"


def _inputs(before: Inputs, after: Inputs, old: Manifests, new: Manifests, nouns: Mapping[str, str]) -> list[Change]:
    changes = []
    for name in sorted(set(before) | set(after)):
        if before.get(name) == after.get(name):
            continue
        items = _items(old[name], new[name]) if name in old and name in new else {}
        changes.append(Change("input", name, _short(before.get(name)), _short(after.get(name)), items, nouns.get(name, "file")))
    return changes


def _items(before: TreeManifest, after: TreeManifest) -> dict[str, tuple[str, ...]]:
    """What happened to the files of a tree. A content that is there under another name was renamed, not removed and added."""
    old, new = dict(before["items"]), dict(after["items"])
    changed = [name for name in new if name in old and old[name] != new[name]]
    added, removed = [name for name in new if name not in old], [name for name in old if name not in new]
    spare = Counter(old[name] for name in removed)
    renamed = []
    for name in list(added):
        if spare[new[name]] > 0:
            spare[new[name]] -= 1
            added.remove(name)
            renamed.append(name)
            removed.remove(next(other for other in removed if old[other] == new[name]))
    if not after.get("names_matter"):
        renamed = []
    found = {"added": added, "removed": removed, "changed": changed, "renamed": renamed}
    return {what: tuple(sorted(names)) for what, names in found.items() if names}


@dataclass(frozen=True)
class Explanation:
    """cached: its result is here. last, nearest: records compared with, None if there are none. against_…: what differs from them."""

    stage: str
    key: str
    cached: bool
    last: Record | None = None
    nearest: Record | None = None
    against_last: tuple[Change, ...] = ()
    against_nearest: tuple[Change, ...] = ()

    def lines(self) -> list[str]:
        """Whether it runs, and why, as lines for people."""
        head = f"{self.stage}: " + ("its result is in the cache" if self.cached else "must run")
        if self.last is None:
            found = [f"{head}; it was not built here before"]
        elif not self.against_last:
            gone = "" if self.cached else ", but its result is no longer in the cache"
            found = [f"{head}; nothing changed since the last build{gone}"]
        else:
            found = [f"{head}; since the last build:", *(f"  {change.line()}" for change in self.against_last)]
        if not self.cached and self.nearest is not None and (self.last is None or self.nearest.key != self.last.key):
            name = self.nearest.label or self.nearest.key[:12]
            found += [f"  nearest in the cache ({name}, {self.nearest.key[:12]}…):", *(f"    {c.line()}" for c in self.against_nearest)]
        return found

    def to_json(self) -> dict[str, object]:
        """The same as plain JSON types."""
        return {
            "stage": self.stage,
            "key": self.key,
            "cached": self.cached,
            "last": self.last.key if self.last else None,
            "nearest": self.nearest.key if self.nearest else None,
            "against_last": [change.to_json() for change in self.against_last],
            "against_nearest": [change.to_json() for change in self.against_nearest],
        }


def why(
    store: "Store", action: Action, *, label: str = "", scope: str = "", nouns: Mapping[str, str] | None = None, search: bool = True
) -> Explanation:
    """Compare an action with the last build in `scope` and, if `search` and it is not cached, with the nearest in the cache."""
    key, document = action.key(), action.as_json()
    mine: Manifests = {name: json.loads(tree.manifest()) for name, tree in action.trees()}
    record = store.record(key)
    cached = record is not None and not store.objection(record)

    def against(record: Record | None) -> tuple[Change, ...]:
        return compare(record.action, document, manifests(store, record), mine, nouns) if record is not None else ()

    last = history.last(store, scope, label, action.stage) if scope else None
    near = nearest(store, document, key) if search and not cached else None
    return Explanation(action.stage, key, cached, last, near, against(last), against(near))


def manifests(store: "Store", record: Record) -> Manifests:
    """The lists of files behind a record's inputs, as far as they are still in the cache."""
    found = {}
    for name, blob in record.manifests.items():
        if store.blobs.has(blob):
            try:
                found[name] = _manifest(store.blobs.read(blob))
            except (CacheError, ValueError, KeyError, TypeError, RecursionError):
                continue  # damaged, or not one: whoever made the record may have written anything
    return found


def _manifest(data: bytes) -> TreeManifest:
    """A list of files, its shape checked. ValueError, KeyError or TypeError if it is not one."""
    document = json.loads(data)
    items = [(name, content) for name, content in document["items"]]
    if not all(isinstance(text, str) for item in items for text in item):
        raise ValueError("an item is not a name and a hash")
    return {"names_matter": document["names_matter"] is True, "items": items}


def nearest(store: "Store", document: ActionDocument, key: str) -> Record | None:
    """The record of the same stage with the fewest differences; of equals the one used last."""
    pool = [entry for entry in entries(store) if entry.record.stage == document["stage"] and entry.record.key != key]
    ranked = sorted(pool, key=lambda entry: (len(compare(entry.record.action, document)), -entry.used, entry.record.key))
    return ranked[0].record if ranked else None


@dataclass(frozen=True)
class Difference:
    """Two records and what differs from `before` to `after`; before is None when there is nothing to compare with."""

    after: Record
    before: Record | None
    changes: tuple[Change, ...]

    def lines(self) -> list[str]:
        """The differences as lines for people, below a heading."""
        head = f"{self.after.stage} {self.after.label} ({self.after.key[:12]}…)"
        if self.before is None:
            return [f"{head}: there is no other record of this stage"]
        against = f"against {self.before.label or 'a record'} ({self.before.key[:12]}…)"
        return [f"{head}, {against}:", *(f"  {change.line()}" for change in self.changes)]

    def to_json(self) -> dict[str, object]:
        """The same as plain JSON types."""
        before = self.before.key if self.before else None
        changes = [change.to_json() for change in self.changes]
        return {"stage": self.after.stage, "key": self.after.key, "against": before, "changes": changes}


def by_name(store: "Store", one: str, other: str | None = None) -> list[Difference]:
    """Differences of stored records: of `other` from `one`, or of `one` (a key, or each last record of a model) from its nearest."""
    found = entries(store)
    if other is not None:
        pair = _one(found, one), _one(found, other)
        return [_difference(store, *pair)]
    latest: dict[str, Entry] = {}
    for entry in sorted((e for e in found if e.record.label == one), key=lambda e: (e.record.provenance.get("started", 0), e.record.key)):
        latest[entry.record.stage] = entry
    chosen = [latest[stage].record for stage in sorted(latest)] or [_one(found, one)]
    return [_difference(store, nearest(store, record.action, record.key), record) for record in chosen]


def _one(found: list[Entry], text: str) -> Record:
    matching = [entry.record for entry in found if entry.record.key.startswith(text)] if len(text) >= 6 else []
    if len(matching) != 1:
        problem = "no model or record" if not matching else f"the beginning of {len(matching)} records"
        raise CacheError(f"{text!r} is {problem} in this cache.", fix="`inspect` lists models; keys need 6 digits or more.")
    return matching[0]


def _difference(store: "Store", before: Record | None, after: Record) -> Difference:
    if before is None:
        return Difference(after, None, ())
    changes = compare(before.action, after.action, manifests(store, before), manifests(store, after))
    return Difference(after, before, changes)
