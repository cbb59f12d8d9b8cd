"""`model.json` as it is published beside a compiled model: it carries its labels, and says what the files were when they were published.

A compiled folder must run where nothing else is, so the names in a label file move into the document. And whoever edits a published file
must be answered: the key `published` holds the SHA-256 of the `.axmodel`, of manifest.json and of model.json itself, the latter without
this key and in canonical form, so that new line ends or another indentation are not an edit.
Light to import.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from axforge.axruntime.pipeline.models import FILE

KEY = "published"


def published_json(source: bytes, labels: Sequence[str], files: Mapping[str, str]) -> bytes:
    """The bytes of a published model.json.

    source: model.json as its author wrote it, a JSON object. labels: the names that its `labels` mean. files: SHA-256 of the files
    beside it, by name.
    """
    document = json.loads(source)
    if isinstance(document.get("labels"), str):
        document["labels"] = list(labels)
    document.pop(KEY, None)
    document[KEY] = {**files, FILE: own_digest(document)}
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def own_digest(document: Mapping[str, object]) -> str:
    """SHA-256 of model.json without the key `published`."""
    rest = {key: value for key, value in document.items() if key != KEY}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def broken(source: bytes, digests: Mapping[str, str]) -> str:
    """The name of the first file that is not as it was published; '' when all are, or nothing says how they were.

    source: the published model.json. digests: SHA-256 of the files beside it that are to be compared.
    """
    document = json.loads(source)
    promised = document.get(KEY, {})
    actual = {**digests, FILE: own_digest(document)}
    return next((name for name, digest in promised.items() if name in actual and actual[name] != digest), "")
