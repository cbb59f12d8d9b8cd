"""The record of an action: what it gave, and how. Everything read here is untrusted until it has been checked.

record file = sha256-of-json "\\n" json "\\n"
json = {"v": 1, "key", "action": {...}, "outputs": [{"name", "sha256", "xxh3", "size"}], "manifests": {input: {"sha256", "size"}},
        "log": {"sha256", "size"} | null, "provenance": {"label", "started", "seconds", "host", "tool", ...},
        "signature": {"key", "value"}?}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from axforge.cache.digest import sha256
from axforge.cache.errors import CacheError
from axforge.cache.key import ActionDocument, Scalar, canonical, is_hash, is_output_name, key_of

#: Refused beyond this: a record is some kilobytes.
MAX_RECORD = 4 << 20
MAX_BLOB = 1 << 40
_DEEPEST = 50
_HEX = frozenset("0123456789abcdef")
#: A JSON object that has not been checked yet; what it lacks raises KeyError or TypeError.
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Blob:
    """Stored bytes: their name and size."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Output:
    """One file that an action gave. xxh3 checks it locally."""

    name: str
    sha256: str
    xxh3: str
    size: int


@dataclass(frozen=True)
class Signature:
    """key: the id of the key that made it. value: 64 bytes as hex. What it is made for is in cache.trust."""

    key: str
    value: str


@dataclass(frozen=True)
class Record:
    """action: the document as JSON. provenance: free, explains and never decides. stored: False when it could not be kept."""

    key: str
    action: ActionDocument
    outputs: tuple[Output, ...]
    manifests: Mapping[str, Blob] = field(default_factory=dict)
    log: Blob | None = None
    provenance: Mapping[str, Scalar] = field(default_factory=dict)
    stored: bool = True
    signature: Signature | None = None

    @property
    def stage(self) -> str:
        """Name of the stage, as it may be shown."""
        return printable(str(self.action["stage"]))

    @property
    def label(self) -> str:
        """What the caller called it, such as the name of a model."""
        return str(self.provenance.get("label", ""))

    @property
    def size(self) -> int:
        """Bytes of all outputs."""
        return sum(output.size for output in self.outputs)

    def output(self, name: str) -> Output:
        """The output of that name. Raises KeyError for an unknown name."""
        for output in self.outputs:
            if output.name == name:
                return output
        raise KeyError(name)

    def contents(self) -> tuple[Blob, ...]:
        """What a restore needs: the contents of the outputs."""
        return tuple(Blob(output.sha256, output.size) for output in self.outputs)

    def extras(self) -> tuple[Blob, ...]:
        """What only explains: lists of files, and the log."""
        return (*(self.manifests[name] for name in sorted(self.manifests)), *((self.log,) if self.log else ()))

    def blobs(self) -> tuple[Blob, ...]:
        """All stored bytes that it refers to."""
        return (*self.contents(), *self.extras())

    def as_json(self) -> dict[str, object]:
        """As plain JSON types."""
        return {
            "v": 1,
            "key": self.key,
            "action": dict(self.action),
            "outputs": [{"name": o.name, "sha256": o.sha256, "xxh3": o.xxh3, "size": o.size} for o in self.outputs],
            "manifests": {name: {"sha256": blob.sha256, "size": blob.size} for name, blob in self.manifests.items()},
            "log": {"sha256": self.log.sha256, "size": self.log.size} if self.log else None,
            "provenance": dict(self.provenance),
            **({"signature": {"key": self.signature.key, "value": self.signature.value}} if self.signature else {}),
        }

    def to_bytes(self) -> bytes:
        """The content of the record file."""
        text = canonical(self.as_json())
        return sha256(text).encode() + b"\n" + text + b"\n"


def parse(data: bytes, key: str) -> Record:
    """The record for `key`. CacheError with the reason when it is damaged, of another version, or not a record of that key."""
    check, _, rest = data.partition(b"\n")
    if len(data) > MAX_RECORD or not rest.endswith(b"\n") or sha256(rest[:-1]).encode() != check:
        raise CacheError("The record is damaged: it is not what its own checksum says.", where=key)
    try:
        record = _from_json(json.loads(rest))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CacheError(f"The record is malformed ({type(error).__name__}: {error}).", where=key) from error
    if record.key != key or key_of(record.action) != key:
        raise CacheError("The record belongs to another action.", where=key)
    if sorted(output.name for output in record.outputs) != record.action["outputs"]:
        raise CacheError("The record does not have the outputs that its action names.", where=key)
    return record


def _from_json(data: Document) -> Record:
    if data["v"] != 1:
        raise ValueError(f"version {data['v']!r}")
    outputs = tuple(Output(_name(o["name"]), _hash(o["sha256"]), _hash(o["xxh3"], 32), _size(o["size"])) for o in data["outputs"])
    _check_action(data["action"])
    manifests = {str(name): _blob(blob) for name, blob in data["manifests"].items()}
    log = None if data["log"] is None else _blob(data["log"])
    signature = Signature(_hash(data["signature"]["key"], 16), _hash(data["signature"]["value"], 128)) if "signature" in data else None
    return Record(_hash(data["key"]), data["action"], outputs, manifests, log, _provenance(data["provenance"]), signature=signature)


def _provenance(data: Document) -> dict[str, Scalar]:
    """Scalars only; texts without control characters, which a terminal would obey; times that are numbers."""
    kept = {name: value for name, value in data.items() if value is None or isinstance(value, (str, int, float, bool))}
    for name in ("started", "seconds"):
        if not isinstance(kept.get(name, 0), (int, float)):
            del kept[name]
    return {printable(name): printable(value) if isinstance(value, str) else value for name, value in kept.items()}


def printable(text: str) -> str:
    """`text` without control characters."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def _check_action(action: Document) -> None:
    """Shapes that reports rely on. ValueError or KeyError otherwise; the content itself is checked by the key."""
    kinds = {"stage": str, "stage_version": int, "inputs": dict, "config": dict, "sdk": str, "libraries": dict, "outputs": list}
    for name, kind in kinds.items():
        if not isinstance(action[name], kind):
            raise ValueError(f"{name} is not a {kind.__name__}")
    if not _is_shallow(action):
        raise ValueError(f"it is nested more than {_DEEPEST} deep")
    for value in action["inputs"].values():
        if not is_hash(value["tree"] if "tree" in value else value["sha256"]):
            raise ValueError("an input is not a SHA-256")
        if "tree" in value and type(value["count"]) is not int:
            raise ValueError("a count is not a number")
    if not all(isinstance(version, str) for version in action["libraries"].values()):
        raise ValueError("the version of a library is not a text")


def _is_shallow(value: object) -> bool:
    """Whether JSON is nested so little that whoever walks it may use recursion."""
    level: list[object] = [value]
    for _ in range(_DEEPEST):
        items = [item for part in level for item in (part.values() if isinstance(part, dict) else part if isinstance(part, list) else ())]
        level = [item for item in items if isinstance(item, (dict, list))]
        if not level:
            return True
    return False


def _blob(data: Document) -> Blob:
    return Blob(_hash(data["sha256"]), _size(data["size"]))


def _hash(value: object, digits: int = 64) -> str:
    if not (isinstance(value, str) and len(value) == digits and _HEX.issuperset(value)):
        raise ValueError(f"{value!r} is not a hash of {digits} hex digits")
    return value


def _name(value: object) -> str:
    if not is_output_name(value):
        raise ValueError(f"{value!r} is not a plain file name")
    return str(value)


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_BLOB:
        raise ValueError(f"{value!r} is not a size")
    return value


def unstored(record: Record) -> Record:
    """The same, marked as not kept."""
    return replace(record, stored=False)
