"""Statements on where a compiled model comes from; and stages that are run again to see whether their records are true."""

import base64
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from tasks_support import STAGES, Project, answer, make_project

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.deployed import attestation
from axforge.cache.digest import hash_once
from axforge.cache.key import canonical
from axforge.cache.record import parse
from axforge.cache.trust import generate
from axforge.signatures import PrivateKey, PublicKey, envelope

BUILDER = "https://ci.example.org/axforge"
KEY, OTHER = PrivateKey.generate(), PrivateKey.generate()
FILES = ("model.axmodel", "manifest.json", "model.json")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is private to a user is kept here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A compiled project of stand-ins with a signed statement."""
    folder = tmp_path_factory.mktemp("attested")
    project = make_project(folder / "project", folder / "cache")
    project.fake_stages()
    project.compile()
    (folder / "key.pem").write_bytes(KEY.pem())
    done = project.doit("cache", "attest", "tiny", "--key", str(folder / "key.pem"), "--builder", BUILDER)
    assert done.status == 0, done.out + done.err
    assert f"signed by the key {KEY.public.id}" in done.out
    return project


@pytest.fixture
def attested(first: Project, tmp_path: Path) -> Project:
    """A copy of it."""
    shutil.copytree(first.root.parent, tmp_path / "copy", symlinks=True)
    root, cache = tmp_path / "copy" / "project", tmp_path / "copy" / "cache"
    return Project(root, {**first.environment, "AXFORGE_CACHE_DIR": str(cache), "AXFORGE_DATA_ROOT": str(root)})


def statement(project: Project) -> dict[str, Any]:
    """The statement inside the envelope."""
    document = json.loads((project.built / attestation.FILE).read_bytes())
    return json.loads(base64.b64decode(document["payload"]))


def test_a_statement_names_everything_by_its_hash(attested: Project) -> None:
    """in-toto Statement v1 and SLSA Provenance v1, field by field."""
    found = statement(attested)
    assert (found["_type"], found["predicateType"]) == ("https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1")
    digests = {name: hashlib.sha256((attested.built / name).read_bytes()).hexdigest() for name in FILES}
    assert {subject["name"]: subject["digest"]["sha256"] for subject in found["subject"]} == digests
    definition, details = found["predicate"]["buildDefinition"], found["predicate"]["runDetails"]
    assert definition["buildType"] == "urn:axforge:compile:1"
    assert definition["externalParameters"]["model"] == "tiny"
    assert list(definition["internalParameters"]) == sorted(STAGES)
    inputs = {item["name"]: item for item in definition["resolvedDependencies"]}
    assert inputs["fetch/model.onnx"]["digest"] == {"sha256": hashlib.sha256(attested.onnx.read_bytes()).hexdigest()}
    assert inputs["calibrate/calibration"]["annotations"] == {"files": 4}
    assert {f"{stage}/code" for stage in STAGES[1:]} <= set(inputs)
    assert inputs["numpy"]["uri"].startswith("pkg:pypi/numpy@")
    assert "check/model.onnx" not in inputs, "what another stage made is a by-product"
    assert details["builder"]["id"] == BUILDER
    assert details["metadata"]["startedOn"] <= details["metadata"]["finishedOn"]
    assert "optimize/graph.axgraph" in {item["name"] for item in details["byproducts"]}
    assert str(attested.root) not in json.dumps(found), "no paths of the machine"


def test_the_same_records_give_the_same_statement(attested: Project) -> None:
    before = (attested.built / attestation.FILE).read_bytes()
    again = attested.doit("cache", "attest", "tiny", "--builder", BUILDER, AXFORGE_CACHE_SIGNING_KEY=KEY.pem().decode())
    assert again.status == 1, "with a signing key, unsigned records are not used"
    attested.doit("cache", "attest", "tiny", "--key", str(attested.root.parent / "key.pem"), "--builder", BUILDER)
    assert (attested.built / attestation.FILE).read_bytes() == before


def test_a_library_of_in_toto_reads_and_verifies_it(attested: Project) -> None:
    """Not our own reader: the one that in-toto and TUF use."""
    document = Envelope.from_dict(json.loads((attested.built / attestation.FILE).read_bytes()))
    key = SSlibKey(KEY.public.id, "ed25519", "ed25519", {"public": KEY.public.raw.hex()})
    assert list(document.verify([key], 1)) == [KEY.public.id]
    assert json.loads(document.payload) == statement(attested)
    other = SSlibKey(KEY.public.id, "ed25519", "ed25519", {"public": OTHER.public.raw.hex()})
    with pytest.raises(VerificationError):
        document.verify([other], 1)


def check(project: Project, key: PublicKey = KEY.public) -> attestation.Attested:
    return attestation.check(project.built, key)


def test_a_good_statement_is_accepted(attested: Project) -> None:
    found = check(attested)
    assert (found.builder, found.subjects) == (BUILDER, tuple(sorted(FILES)))
    assert attestation.check(attested.built / "model.axmodel", KEY.public).subjects == ("model.axmodel",)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_changed_is_refused(attested: Project, name: str) -> None:
    path = attested.built / name
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + b" ")
    with pytest.raises(AxforgeError, match="not the file that the statement is about"):
        check(attested)


def rewrite(project: Project, document: object) -> None:
    (project.built / attestation.FILE).write_text(document if isinstance(document, str) else json.dumps(document))


def test_forged_statements_are_refused(attested: Project) -> None:
    good, inner = json.loads((attested.built / attestation.FILE).read_bytes()), statement(attested)
    evil = base64.b64encode(json.dumps({**inner, "evil": 1}).encode()).decode()
    payload = json.dumps(inner).encode()
    cases: list[tuple[object, str]] = [
        (inner, "is not signed"),
        ({**good, "payload": evil}, "not signed by the key"),
        ({**good, "payloadType": "text/plain"}, "and not"),
        ({**good, "signatures": []}, "not signed by the key"),
        ({**good, "signatures": 3}, "not signed by the key"),
        ({**good, "signatures": [{"sig": "%%"}]}, "not base64"),
        ({**good, "signatures": [3]}, "lacks a payload or a signature"),
        ({**good, "payload": None}, "lacks a payload"),
        (envelope(attestation.PAYLOAD, payload, OTHER), "not signed by the key"),
        (envelope("text/plain", payload, KEY), "and not"),
        (envelope(attestation.PAYLOAD, b"[]", KEY), "does not hold an in-toto statement"),
        (envelope(attestation.PAYLOAD, b"{", KEY), "is not JSON"),
        (envelope(attestation.PAYLOAD, json.dumps({**inner, "predicateType": "x"}).encode(), KEY), "does not hold"),
        (envelope(attestation.PAYLOAD, json.dumps({**inner, "subject": []}).encode(), KEY), "not the file"),
        (envelope(attestation.PAYLOAD, json.dumps({**inner, "subject": 3}).encode(), KEY), "lacks a part"),
        (envelope(attestation.PAYLOAD, json.dumps({**inner, "predicate": {}}).encode(), KEY), "lacks a part"),
        ("[" * 100_000, "is not JSON"),
        ("", "is not JSON"),
    ]
    for document, words in cases:
        rewrite(attested, document)
        with pytest.raises(AxforgeError, match=words):
            check(attested)
    (attested.built / attestation.FILE).unlink()
    with pytest.raises(AxforgeError, match="no statement"):
        check(attested)


def test_what_is_not_compiled_or_was_edited_is_not_attested(attested: Project) -> None:
    axmodel = attested.built / "model.axmodel"
    axmodel.unlink()
    axmodel.write_bytes(b"mine")
    done = attested.doit("cache", "attest", "tiny")
    assert (done.status, "is not what the last stage gave" in done.err) == (1, True)
    attested.describe(compile={"quantize": {"scheme": "minmax"}})
    done = attested.doit("cache", "attest", "tiny")
    assert (done.status, "The result of quantize is not in the cache" in done.err) == (1, True)
    done = attested.doit("cache", "attest", "tiny", "--key", "absent.pem")
    assert (done.status, "absent.pem cannot be read" in done.err, "Traceback" in done.err) == (1, True, False)


def test_axmodel_verify_checks_a_real_model_its_bundle_and_the_key(project: Project, tmp_path: Path) -> None:
    public = generate(tmp_path / "ci.pem")
    project.compile(AXFORGE_CACHE_SIGNING_KEY=str(tmp_path / "ci.pem"))
    done = project.doit("cache", "attest", "tiny", AXFORGE_CACHE_SIGNING_KEY=str(tmp_path / "ci.pem"))
    assert f"signed by the key {public.id}" in done.out
    tool = [sys.executable, "-m", "axforge.axruntime"]
    bundled = answer([*tool, "bundle", str(project.built), "-o", "tiny.zip"], tmp_path, project.env())
    assert bundled.status == 0, bundled.err
    for what in (str(project.built), str(project.built / "model.axmodel"), "tiny.zip"):
        for key in (str(public), str(tmp_path / "ci.pem.pub")):
            done = answer([*tool, "verify", "--key", key, what], tmp_path, project.env())
            assert (done.status, f"signed by the key {public.id}" in done.out) == (0, True), done.err
    done = answer([*tool, "verify", "--key", str(OTHER.public), str(project.built)], tmp_path, project.env())
    assert (done.status, "not signed by the key" in done.err) == (1, True)
    done = answer([*tool, "verify", "--key", "ed25519:x", str(project.built)], tmp_path, project.env())
    assert (done.status, "is not a public key" in done.err) == (1, True)
    done = project.doit(
        "cache", "verify", "--rebuild", "tiny", "--sample", "7", "--json", AXFORGE_CACHE_SIGNING_KEY=str(tmp_path / "ci.pem")
    )
    assert done.status == 0, done.out + done.err
    rows = json.loads(done.out)["stages"]
    assert [(row["stage"], row["differs"]) for row in rows] == [(stage, []) for stage in STAGES]


# --- verify --rebuild ----------------------------------------------------------------------------------------------------------


def test_a_record_that_is_not_true_is_found(attested: Project) -> None:
    """Forged as somebody would who may write to the cache: sound in itself, only not what the stage gives."""
    ran = (attested.root / "ran.log").read_text()
    done = attested.doit("cache", "verify", "--rebuild", "tiny", "--sample", "100", "--seed", "1")
    assert (done.status, "7 stages run again, --seed 1" in done.out) == (0, True), done.out + done.err
    assert (attested.root / "ran.log").read_text() != ran
    forge(Path(attested.environment["AXFORGE_CACHE_DIR"]), "pack")
    shutil.rmtree(attested.root / "build")
    assert attested.compile().ran() == [], "nobody notices"
    done = attested.doit("cache", "verify", "--rebuild", "tiny", "--sample", "100", "--seed", "1")
    assert done.status == 1
    assert "tiny: pack" in done.out
    assert "OTHER BYTES" in done.out
    assert "manifest.json" in done.out
    few = attested.doit("cache", "verify", "--rebuild", "tiny", "--sample", "2", "--seed", "5", "--json")
    assert len(json.loads(few.out)["stages"]) == 2


def forge(cache: Path, stage: str) -> None:
    """Let the record of a stage name another content for its manifest."""
    evil = b"evil" * 1000
    content = hashlib.sha256(evil).hexdigest()
    blob = cache / "v1" / "cas" / content[:2] / content
    blob.parent.mkdir(exist_ok=True)
    blob.write_bytes(evil)
    for path in cache.glob("v1/ac/*/*"):
        record = parse(path.read_bytes(), path.name)
        if record.stage == stage:
            data = record.as_json()
            for output in data["outputs"]:  # type: ignore[attr-defined]
                if output["name"] == "manifest.json":
                    output.update(sha256=content, size=len(evil), xxh3=hash_once(blob).xxh3)
            text = canonical(data)
            path.chmod(0o644)
            path.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text + b"\n")


def test_rebuilding_needs_a_compiled_model_and_leaves_nothing(attested: Project) -> None:
    attested.doit("cache", "verify", "--rebuild", "tiny")
    left = list(Path(attested.environment["AXFORGE_CACHE_DIR"], "v1", "tmp").iterdir())
    assert left == []
    attested.describe(compile={"quantize": {"scheme": "minmax"}})
    done = attested.doit("cache", "verify", "--rebuild", "tiny", "--sample", "7")
    assert (done.status, "The result of quantize is not in the cache" in done.err) == (1, True)
    assert "attest MODEL" in attested.doit("cache", "--help").out
