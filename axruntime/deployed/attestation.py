"""Where a compiled model comes from: an in-toto statement beside it, signed in a DSSE envelope. Here it is checked; tasks make it.

model.axmodel.intoto.json = DSSE envelope of, or unsigned just,
{"_type": "https://in-toto.io/Statement/v1", "subject": [{"name", "digest": {"sha256"}}],
 "predicateType": "https://slsa.dev/provenance/v1", "predicate": {"buildDefinition", "runDetails"}}
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axforge.axcompiler import manifest
from axforge.axcompiler.errors import AxforgeError, FormatError
from axforge.axruntime.deployed.files import FolderFiles, ModelFiles, open_files
from axforge.signatures import PublicKey, SignatureProblem, is_envelope, opened

FILE = f"{manifest.MODEL_FILE}.intoto.json"
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
#: What a statement is made of, in this order.
SUBJECTS = (manifest.MODEL_FILE, manifest.FILE, manifest.PIPELINE_FILE)
_MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Attested:
    """A statement that a key signed, of files that are what it says. builder: who says it was built there. inputs: how many it names."""

    key: PublicKey
    builder: str
    inputs: int
    subjects: tuple[str, ...]

    def line(self) -> str:
        """What was found, for people."""
        return f"attested: {', '.join(self.subjects)} built by {self.builder} from {self.inputs} inputs; signed by the key {self.key.id}"


def check(path: Path, key: PublicKey) -> Attested:
    """The statement beside a compiled model, in its folder or in its bundle. Raises AxforgeError unless `key` signed it and it fits."""
    whole = path.is_dir() or path.suffix == ".zip"
    files: ModelFiles = open_files(path) if whole else FolderFiles(path.parent)
    name = manifest.MODEL_FILE if whole else path.name
    data = files.read(FILE if whole else f"{path.name}.intoto.json")
    if data is None:
        fix = "`doit cache attest MODEL` writes one; a bundle takes it along."
        raise AxforgeError("there is no statement on where this model comes from", where=str(path), fix=fix)
    statement, signer = _signed(bytes(data), key, str(path))
    try:
        digests = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
        builder = str(statement["predicate"]["runDetails"]["builder"]["id"])
        inputs = len(statement["predicate"]["buildDefinition"]["resolvedDependencies"])
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"the statement lacks a part of a SLSA provenance: {error}", where=str(path)) from error
    present = {subject: files.read(name if subject == manifest.MODEL_FILE else subject) for subject in SUBJECTS[: None if whole else 1]}
    for subject, content in present.items():
        if content is not None and digests.get(subject) != hashlib.sha256(content).hexdigest():
            fix = "The model was changed or compiled again after it was attested; attest it again, or do not use it."
            raise FormatError(f"{subject} is not the file that the statement is about", where=str(path), fix=fix)
    if present[manifest.MODEL_FILE] is None:
        raise AxforgeError(f"there is no {name}", where=str(path))
    return Attested(signer, builder if builder.isprintable() else "?", inputs, tuple(sorted(s for s in present if present[s] is not None)))


def _signed(data: bytes, key: PublicKey, where: str) -> tuple[Mapping[str, Any], PublicKey]:
    if len(data) > _MAX_BYTES:
        raise FormatError(f"the statement has more than {_MAX_BYTES} bytes", where=where)
    try:
        document = json.loads(data)
        if not is_envelope(document):
            raise SignatureProblem("The statement is not signed.")
        payload, signer = opened(document, PAYLOAD, [key])
        statement = json.loads(payload)
    except SignatureProblem as problem:
        raise FormatError(str(problem), where=where, fix="Give the public key of whoever built it.") from problem
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the statement is not JSON: {type(error).__name__}", where=where) from error
    if not isinstance(statement, dict) or (statement.get("_type"), statement.get("predicateType")) != (STATEMENT, PREDICATE):
        raise FormatError("the envelope does not hold an in-toto statement with a SLSA provenance", where=where)
    return statement, signer
