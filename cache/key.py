"""What names an action: everything that decides its bytes, as one document, and its SHA-256.

    document = "axforge action 1\\n" canonical-json
    key      = sha256(document)

Canonical JSON: UTF-8, keys sorted, no blanks, floats as Python's shortest repr; NaN and infinities, keys that are not strings and
types that JSON lacks are refused. The document carries no path, time, host or user.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from axforge.cache.digest import FileDigest, sha256
from axforge.cache.errors import CacheError

#: A JSON value that holds no others.
Scalar = str | int | float | bool | None
#: A JSON value; a mapping has strings as keys.
Json = Mapping[str, "Json"] | Sequence["Json"] | Scalar


class InputDocument(TypedDict):
    """An input in an action's document: the SHA-256 of one file, or the digest of a tree and the count of its files."""

    sha256: NotRequired[str]
    tree: NotRequired[str]
    count: NotRequired[int]


class ActionDocument(TypedDict):
    """What the key of an action is the hash of."""

    stage: str
    stage_version: int
    inputs: Mapping[str, InputDocument]
    config: Mapping[str, Json]
    sdk: str
    libraries: Mapping[str, str]
    outputs: Sequence[str]


ACTION_TAG = b"axforge action 1\n"
TREE_TAG = b"axforge tree 1\n"
_HEX = frozenset("0123456789abcdef")


def is_hash(text: object) -> bool:
    """Whether `text` is a SHA-256 in lower-case hex."""
    return isinstance(text, str) and len(text) == 64 and _HEX.issuperset(text)


def is_output_name(name: object) -> bool:
    """Whether `name` may be a file name of an output: one plain component, nothing that leaves a folder on any system."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= 200
        and name.isprintable()
        and not name.startswith(".")
        and not set(name) & set('/\\:*?"<>|')
    )


def canonical(value: object) -> bytes:
    """`value` (dicts with string keys, lists, tuples, strings, numbers, bools, None) as canonical JSON; CacheError for others."""
    plain = _plain(value, "")
    try:
        return json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise CacheError("A text in the configuration is not valid Unicode.", fix="Write it as UTF-8.") from error


def _plain(value: object, where: str) -> Json:
    if isinstance(value, Mapping):
        return _plain_table(value, where)
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise CacheError(f"{value} cannot be part of a key.", where=where, fix="Use a finite number.")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CacheError(f"A {type(value).__name__} cannot be part of a key.", where=where, fix="Use JSON types only.")


def _plain_table(value: Mapping[str, object], where: str) -> Mapping[str, Json]:
    for name in value:
        if not isinstance(name, str):
            raise CacheError(f"The key {name!r} is not a text.", where=where, fix="Use texts as keys in configurations.")
    return {str(name): _plain(item, f"{where}.{name}" if where else name) for name, item in value.items()}


@dataclass(frozen=True)
class Tree:
    """Many files as one input. `items`: (name, sha256) sorted by name.

    Unless `names_matter`, the digest is over the contents alone, as a multiset: renaming or reordering changes nothing.
    """

    items: tuple[tuple[str, str], ...]
    names_matter: bool = False

    @classmethod
    def of(cls, items: Mapping[str, FileDigest | str], *, names_matter: bool = False) -> "Tree":
        """From a mapping of name to content. CacheError for something that is not a hash."""
        for content in items.values():
            if isinstance(content, FileDigest):
                content.confirm()
        pairs = sorted((name, _file_hash(content, name)) for name, content in items.items())
        return cls(tuple(pairs), names_matter)

    def digest(self) -> str:
        """SHA-256 of the tagged list of contents (with their names, if these matter)."""
        lines = [list(item) for item in self.items] if self.names_matter else sorted(content for _, content in self.items)
        return sha256(TREE_TAG + canonical([self.names_matter, lines]))

    def manifest(self) -> bytes:
        """Names and hashes as canonical JSON; kept beside the result, to explain later what differed."""
        return canonical({"names_matter": self.names_matter, "items": [list(item) for item in self.items]})


def _file_hash(content: FileDigest | str, name: str) -> str:
    value = content if isinstance(content, str) else content.sha256
    if not is_hash(value):
        raise CacheError(f"{value!r} is not a SHA-256 in lower-case hex.", where=name, fix="Pass a FileDigest.")
    return value


Input = FileDigest | Tree | str


@dataclass(frozen=True)
class Action:
    """One run of one stage, named by all that decides its bytes.

    stage, stage_version: which code. inputs: by name; FileDigest, a SHA-256 in hex, or Tree. config: this stage's part, defaults
    filled in. sdk: version of the tool. libraries: versions of those whose code decides bytes. outputs: file names, no folders.
    """

    stage: str
    stage_version: int
    inputs: Mapping[str, Input]
    config: Mapping[str, object]
    outputs: tuple[str, ...]
    sdk: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> ActionDocument:
        """The document's content as plain JSON types. CacheError for inputs, configurations or names that cannot be named."""
        for name in self.outputs:
            if not is_output_name(name):
                raise CacheError(f"{name!r} cannot be the name of an output.", where=self.stage, fix="Use a plain file name.")
        if len(set(self.outputs)) != len(self.outputs) or not self.outputs:
            raise CacheError("An action needs outputs, each named once.", where=self.stage)
        return {
            "stage": self.stage,
            "stage_version": self.stage_version,
            "inputs": {name: _input_json(name, value) for name, value in self.inputs.items()},
            "config": _plain_table(self.config, ""),
            "sdk": self.sdk,
            "libraries": dict(self.libraries),
            "outputs": sorted(self.outputs),
        }

    def document(self) -> bytes:
        """The bytes that the key is the hash of."""
        return document_of(self.as_json())

    def key(self) -> str:
        """The SHA-256 of the document, 64 hex digits."""
        return sha256(self.document())

    def confirm(self) -> None:
        """Make sure that every input's SHA-256 was computed from its bytes (see FileDigest.confirm); the key may become another."""
        for value in self.inputs.values():
            if isinstance(value, FileDigest):
                value.confirm()

    def trees(self) -> Iterator[tuple[str, Tree]]:
        """Inputs that are many files, by name."""
        return ((name, value) for name, value in sorted(self.inputs.items()) if isinstance(value, Tree))


def _input_json(name: str, value: Input) -> InputDocument:
    if isinstance(value, Tree):
        return {"tree": value.digest(), "count": len(value.items)}
    return {"sha256": _file_hash(value, name)}


def document_of(action: ActionDocument) -> bytes:
    """The document of an action given as JSON (`Action.as_json`)."""
    return ACTION_TAG + canonical(action)


def key_of(action: ActionDocument) -> str:
    """The key of an action given as JSON."""
    return sha256(document_of(action))
