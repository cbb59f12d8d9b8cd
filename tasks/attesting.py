"""`doit cache attest MODEL`: what a compiled model was made of, by whom and how, as an in-toto statement beside it.

Everything is taken from the cache's records of the seven stages: what they read is named by its SHA-256.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from axforge.axcompiler.container import write_atomic
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import BY_NAME
from axforge.axruntime.deployed import attestation
from axforge.cache.errors import masked
from axforge.cache.key import Json, canonical
from axforge.cache.record import Record
from axforge.signatures import PrivateKey, SignatureProblem, envelope, read_key
from axforge.tasks.project.plan import SDK, BuildPlan
from axforge.tasks.stages.execution import open_cache
from axforge.tasks.stages.explaining import cached_keys

BUILD_TYPE = "urn:axforge:compile:1"
#: Name of the digest of an input that is many files: see docs/cache.md, Keys.
TREE_DIGEST = "axforgeTree"


def attest(plan: BuildPlan, key: PrivateKey | None, builder: str = "") -> Path:
    """Write the statement of a compiled model beside it, signed if there is a key; gives its path.

    builder: URI of whoever vouches for the build. Raises AxforgeError when the model is not compiled, or not as a build would make it now.
    """
    if plan.own:
        raise AxforgeError("`model` names a compiled model, which was not built here.", where=str(plan.model.path))
    store = open_cache(plan)
    records = [record for key_of_stage in cached_keys(plan) if (record := store.record(key_of_stage)) is not None]
    document = statement(plan, records, builder)
    payload = canonical(document)
    content = canonical(envelope(attestation.PAYLOAD, payload, key)) if key else payload
    target = plan.published / attestation.FILE
    try:
        write_atomic(target, content + b"\n")
    except OSError as error:
        raise AxforgeError(f"The statement cannot be written: {error.strerror}.", where=str(target)) from error
    return target


def key_for(given: str) -> PrivateKey | None:
    """The key in a file, or None for ''. Raises AxforgeError when it cannot be used."""
    try:
        return read_key(given) if given else None
    except SignatureProblem as problem:
        raise AxforgeError(str(problem), fix="`doit cache keygen FILE` makes a pair of keys.") from problem


def statement(plan: BuildPlan, records: Sequence[Record], builder: str) -> dict[str, Json]:
    """The in-toto statement with its SLSA provenance, of the published files and the records of all stages."""
    pack = next(record for record in records if record.stage == "pack")
    times = [(float(record.provenance.get("started") or 0), float(record.provenance.get("seconds") or 0)) for record in records]
    return {
        "_type": attestation.STATEMENT,
        "subject": _subjects(plan, pack),
        "predicateType": attestation.PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"model": plan.model.name, "cores": plan.cores, "descriptor": _shown(plan.model.raw)},
                "internalParameters": {record.stage: {"key": record.key, "config": record.action["config"]} for record in records},
                "resolvedDependencies": [*_inputs(records), *_libraries(records)],
            },
            "runDetails": {
                "builder": {"id": builder or f"urn:axforge:host:{pack.provenance.get('host', 'unknown')}", "version": {"axforge": SDK}},
                "metadata": {
                    "invocationId": pack.key,
                    "startedOn": _moment(min(start for start, _ in times)),
                    "finishedOn": _moment(max(start + seconds for start, seconds in times)),
                },
                "byproducts": [
                    {"name": f"{record.stage}/{output.name}", "digest": {"sha256": output.sha256}}
                    for record in records
                    for output in record.outputs
                ],
            },
        },
    }


def _subjects(plan: BuildPlan, pack: Record) -> list[Json]:
    """The published files, which must be those that the last stage gave."""
    found: list[Json] = []
    made = {output.name: output.sha256 for output in pack.outputs}
    for name in attestation.SUBJECTS:
        path = plan.published / name
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        if content != made.get(name, content) or not content:
            what = "This file is not there, or is not what the last stage gave."
            raise AxforgeError(what, where=str(path), fix=f"Compile the model first: doit compile:{plan.model.name}.")
        found.append({"name": name, "digest": {"sha256": content}})
    return found


def _inputs(records: Sequence[Record]) -> list[Json]:
    """What the stages read and no other stage made."""
    made = {output.sha256 for record in records for output in record.outputs}
    found: list[Json] = []
    for record in records:
        for name, value in sorted(record.action["inputs"].items()):
            if "tree" in value:
                digest: Json = {TREE_DIGEST: value["tree"]}
                found.append({"name": f"{record.stage}/{name}", "digest": digest, "annotations": {"files": value["count"]}})
            elif value["sha256"] not in made or record.stage == BY_NAME["fetch"].name:
                found.append({"name": f"{record.stage}/{name}", "digest": {"sha256": value["sha256"]}})
    return found


def _libraries(records: Sequence[Record]) -> list[Json]:
    """The distributions whose version decides bytes, as package URLs."""
    versions = {name: version for record in records for name, version in record.action["libraries"].items()}
    return [{"name": name, "uri": f"pkg:pypi/{name.lower().replace('_', '-')}@{versions[name]}"} for name in sorted(versions)]


def _shown(value: Json) -> Json:
    """A descriptor without credentials in its addresses."""
    if isinstance(value, Mapping):
        return {name: _shown(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return masked(value) if isinstance(value, str) else value


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def summary(path: Path, key: PrivateKey | None) -> str:
    """What was written, for people."""
    signed = f"signed by the key {key.public.id}" if key else "not signed: there is no key (--key FILE, or signing_key)"
    return f"{path}: {signed}"
