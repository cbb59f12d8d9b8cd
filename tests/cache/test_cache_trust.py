"""Signed records: what is not signed by a trusted key is not used, whoever wrote it where; and what pull requests make stays apart."""

import base64
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cache_support import BIG, build, is_right, make_action, make_store, outputs_for, stored_files

from axforge.cache.bundle import export, import_bundle
from axforge.cache.cli import main
from axforge.cache.config import Config, load, open_store
from axforge.cache.digest import Hasher
from axforge.cache.errors import CacheError
from axforge.cache.record import Record, Signature, parse
from axforge.cache.remote.connect import connect, untrusted_url
from axforge.cache.store import Store
from axforge.cache.trust import Trust, generate
from axforge.signatures import PrivateKey, PublicKey, SignatureProblem, read_key

CI = PrivateKey.generate()
STRANGER = PrivateKey.generate()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is private to a user is kept here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def signed(tmp_path: Path, key: PrivateKey | None, root: str = "c") -> Record:
    """A result in a cache, made and signed by the owner of `key`."""
    store, _ = make_store(tmp_path / root, trust=Trust([], key) if key else None)
    return build(store, b"model", tmp_path / "made", label="m").record


def test_what_ci_signed_is_used(tmp_path: Path) -> None:
    record = signed(tmp_path, CI)
    assert record.signature is not None
    assert record.signature.key == CI.public.id
    store, said = make_store(tmp_path / "c", trust=Trust([CI.public]))
    assert build(store, b"model", tmp_path / "d").how == "restored"
    assert (is_right(tmp_path / "d", b"model"), said) == (True, [])


@pytest.mark.parametrize(("key", "words"), [(None, "is not signed"), (STRANGER, "which trusted_keys does not name")])
def test_what_nobody_or_a_stranger_signed_is_not_used_and_said_once(tmp_path: Path, key: PrivateKey | None, words: str) -> None:
    signed(tmp_path, key)
    store, said = make_store(tmp_path / "c", trust=Trust([CI.public]))
    assert store.lookup(make_action(b"model", store)) is None
    assert build(store, b"model", tmp_path / "d").how == "ran"
    assert len(said) == 1
    assert words in said[0]
    again, said = make_store(tmp_path / "c", trust=Trust([CI.public]))
    assert build(again, b"model", tmp_path / "d").how == "restored", "what was made here is one's own, and kept"
    assert said == []


def test_nothing_of_a_signed_record_can_be_changed(tmp_path: Path) -> None:
    """Other bytes under the same action, another file list, another log, another key's name: each is seen."""
    record = signed(tmp_path, CI)
    trust = Trust([CI.public])
    other = replace(record.outputs[0], sha256="0" * 64)
    assert record.signature is not None
    changed = [
        replace(record, outputs=(other, *record.outputs[1:])),
        replace(record, outputs=(replace(record.outputs[0], xxh3="0" * 32), *record.outputs[1:])),
        replace(record, outputs=(replace(record.outputs[0], size=1), *record.outputs[1:])),
        replace(record, outputs=record.outputs[::-1]),
        replace(record, log=None),
        replace(record, key="0" * 64),
        replace(record, signature=Signature(CI.public.id, "0" * 128)),
        replace(record, signature=Trust([], STRANGER).sign(record).signature),
        replace(record, signature=None),
    ]
    assert trust.objection(record) == ""
    assert [bool(trust.objection(forged)) for forged in changed] == [True] * len(changed)
    assert trust.objection(replace(record, provenance={"from": "elsewhere"})) == "", "what only explains is not signed"


def test_a_signature_survives_its_record_and_a_malformed_one_is_damage(tmp_path: Path) -> None:
    record = signed(tmp_path, CI)
    assert parse(record.to_bytes(), record.key) == record
    for bad in (Signature("x", "y"), Signature("0" * 16, "0" * 127), Signature("0" * 17, "0" * 128)):
        with pytest.raises(CacheError, match="malformed"):
            parse(replace(record, signature=bad).to_bytes(), record.key)


def test_a_forged_record_of_a_remote_is_not_even_downloaded(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "ci", remote=connect(str(tmp_path / "share"), "rw"))
    build(store, b"model", tmp_path / "made")
    mine, said = make_store(tmp_path / "c", remote=connect(str(tmp_path / "share"), "ro"), trust=Trust([CI.public]))
    assert mine.lookup(make_action(b"model", mine)) is None
    assert "remote cache" in said[0]
    assert stored_files(tmp_path / "c", "cas") == []
    honest, _ = make_store(tmp_path / "ci2", remote=connect(str(tmp_path / "share"), "rw"), trust=Trust([], CI))
    assert build(honest, b"model", tmp_path / "made").how == "ran", "a signing CI does not take over unsigned results either"
    assert build(mine, b"model", tmp_path / "d").how == "restored"
    assert is_right(tmp_path / "d", b"model")


def test_a_content_with_the_same_xxh3_is_found_out_by_its_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if somebody had made files collide: without trust that goes unnoticed, as documented; with it nothing wrong comes out."""
    monkeypatch.setattr(Hasher, "xxh3", property(lambda self: "7" * 32))
    record = signed(tmp_path, CI)
    for output in record.outputs:
        blob = tmp_path / "c" / "v1" / "cas" / output.sha256[:2] / output.sha256
        blob.chmod(0o644)
        blob.write_bytes(b"\1" * output.size)
    unsuspecting, _ = make_store(tmp_path / "c")
    assert build(unsuspecting, b"model", tmp_path / "d").how == "restored"
    assert not is_right(tmp_path / "d", b"model")
    store, _ = make_store(tmp_path / "c", trust=Trust([CI.public]))
    assert build(store, b"model", tmp_path / "e").how == "ran"
    assert is_right(tmp_path / "e", b"model")
    assert (tmp_path / "e" / "big.bin").stat().st_nlink == 1, "no link to a file that somebody else may own"


def test_a_bundle_is_used_whole_or_not_at_all(tmp_path: Path) -> None:
    for name, key in (("signed", CI), ("plain", None)):
        record = signed(tmp_path, key, name)
        store, _ = make_store(tmp_path / name)
        export(store, {record.key: record}, tmp_path / f"{name}.bundle")
    mine, _ = make_store(tmp_path / "c", trust=Trust([CI.public]))
    with pytest.raises(CacheError, match="is not signed"):
        import_bundle(mine, tmp_path / "plain.bundle")
    assert stored_files(tmp_path / "c", "cas") == []
    assert import_bundle(mine, tmp_path / "signed.bundle")["new"] == 1
    assert build(mine, b"model", tmp_path / "d").how == "restored"


# --- pull requests -------------------------------------------------------------------------------------------------------------


def opened(tmp_path: Path, folder: str, *, untrusted: bool = False) -> Store:
    """The store of a job that shares a remote with the others."""
    return open_store(tmp_path, config=Config(dir=tmp_path / folder, remote=str(tmp_path / "share"), mode="rw", untrusted=untrusted))


def test_what_a_pull_request_makes_is_read_by_pull_requests_only(tmp_path: Path) -> None:
    trusted = opened(tmp_path, "ci")
    build(trusted, b"trusted", tmp_path / "d")
    before = stored_files(tmp_path / "ci", "ac")
    shared = {path.name for path in (tmp_path / "share" / "ac").iterdir()}
    request = opened(tmp_path, "ci", untrusted=True)
    assert build(request, b"trusted", tmp_path / "d").how == "restored", "it reads what is trusted"
    assert build(request, b"evil", tmp_path / "d").how == "ran"
    assert stored_files(tmp_path / "ci", "ac") == before
    assert {path.name for path in (tmp_path / "share" / "ac").iterdir()} == shared
    another = opened(tmp_path, "other", untrusted=True)
    assert build(another, b"evil", tmp_path / "d").how == "restored"
    assert build(opened(tmp_path, "ci"), b"evil", tmp_path / "e").how == "ran"


def test_a_record_that_strays_out_of_the_untrusted_namespace_is_not_used(tmp_path: Path) -> None:
    request, _ = make_store(tmp_path / "r", untrusted=True)
    record = build(request, b"evil", tmp_path / "d").record
    export(request, {record.key: record}, tmp_path / "x.bundle")
    store, said = make_store(tmp_path / "c")
    with pytest.raises(CacheError, match="untrusted namespace"):
        import_bundle(store, tmp_path / "x.bundle")
    (tmp_path / "r" / "v1").rename(tmp_path / "moved")
    (tmp_path / "n").mkdir()
    (tmp_path / "moved").rename(tmp_path / "n" / "v1")
    store, said = make_store(tmp_path / "n")
    assert build(store, b"evil", tmp_path / "d").how == "ran"
    assert "untrusted namespace" in said[0]


def test_where_pull_requests_write() -> None:
    assert untrusted_url("") == ""
    assert untrusted_url("https://a/b/") == "mirrors://https://a/b/untrusted,https://a/b/"
    assert untrusted_url("mirrors://https://a,/b") == "mirrors://https://a/untrusted,https://a,/b"


# --- keys and configuration ----------------------------------------------------------------------------------------------------


def test_keygen_and_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AXFORGE_CACHE_DIR", str(tmp_path / "c"))
    assert main(["keygen", "ci.pem"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert (tmp_path / "ci.pem").stat().st_mode & 0o077 == 0
    assert main(["keygen", "ci.pem"]) == 1, "a key is never overwritten"
    public = PublicKey.parse((tmp_path / "ci.pem.pub").read_text())
    assert read_key("ci.pem").public == public
    (tmp_path / "axforge.toml").write_text(f'[cache]\nsigning_key = "ci.pem"\n{line}\n')
    found = load(tmp_path)
    assert (found.trusted_keys, found.signing_key) == ((str(public),), str(tmp_path / "ci.pem"))
    monkeypatch.chdir("/")
    record = build(open_store(tmp_path), b"model", tmp_path / "d").record
    assert record.signature is not None
    assert record.signature.key == public.id
    assert main(["inspect", record.key], start_dir=tmp_path) == 0
    assert f"signed by the key {public.id}\n" in capsys.readouterr().out
    monkeypatch.setenv("AXFORGE_CACHE_TRUSTED_KEYS", f"{STRANGER.public}, {CI.public}")
    monkeypatch.setenv("AXFORGE_CACHE_SIGNING_KEY", CI.pem().decode())
    trust = open_store(tmp_path).trust
    assert trust is not None
    assert (set(trust.keys), trust.signer and trust.signer.public) == ({STRANGER.public.id, CI.public.id}, CI.public)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('trusted_keys = ["ed25519:AAAA"]', "is not a public key"),
        ('trusted_keys = ["rsa:AAAA"]', "is not a public key"),
        ("trusted_keys = [3]", "is not a public key"),
        ('trusted_keys = "ed25519:AAAA"', "is not a value for 'trusted_keys'"),
        ('signing_key = "absent.pem"', "cannot be read"),
        ('signing_key = "axforge.toml"', "not a private key"),
        ('untrusted = "yes"', "is not a value for 'untrusted'"),
    ],
)
def test_a_wrong_key_is_a_sentence_and_never_ignored(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "axforge.toml").write_text(f"[cache]\ndir = 'c'\n{text}\n")
    with pytest.raises(CacheError, match=words):
        open_store(tmp_path)


def test_keys_of_openssl_and_of_other_kinds(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(SignatureProblem, match="not an Ed25519 key"):
        PrivateKey.parse(other)
    # RFC 8032, 7.1, test 2, in the form that `openssl genpkey` writes
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    der = base64.b64encode(bytes.fromhex("302e020100300506032b657004220420") + seed).decode()
    key = PrivateKey.parse(f"-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n".encode())
    assert key.public.raw.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex().startswith("92a009a9f0d4cab8720e820b5f642540")


def test_two_processes_have_one_key_of_their_own(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from axforge.cache.store import Store; from axforge.cache.trust import Trust\n"
        "trust = Store(Path(sys.argv[1]), trust=Trust([])).trust\n"
        "print(trust.signer.public)"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in running}) == 1
    file = next((tmp_path / "v1" / "index").glob("*/note-signing-key"))
    assert file.stat().st_mode & 0o077 == 0


def test_signing_is_optional(tmp_path: Path) -> None:
    """Without the package a configured key is an error, and nothing else is."""
    script = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from pathlib import Path; from axforge.cache.config import open_store\n"
        "from axforge.cache.errors import CacheError\n"
        "open_store(Path(sys.argv[1]))\n"
        f"Path(sys.argv[1], 'axforge.toml').write_text('[cache]\\ntrusted_keys = [\"{CI.public}\"]')\n"
        "try:\n    open_store(Path(sys.argv[1]))\n"
        "except CacheError as error:\n    print(error)\n"
    )
    environ = {**os.environ, "AXFORGE_CACHE_DIR": str(tmp_path / "c")}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, env=environ)
    assert "pip install 'axforge[sign]'" in done.stdout


def test_a_record_without_a_signature_has_the_bytes_that_it_had(tmp_path: Path) -> None:
    record = signed(tmp_path, None)
    assert "signature" not in json.loads(record.to_bytes().partition(b"\n")[2])
    assert len(outputs_for(b"model")["big.bin"]) == BIG


def test_a_secret_that_is_not_a_file_is_not_shown() -> None:
    secret = CI.pem().decode().splitlines()[1]
    with pytest.raises(SignatureProblem) as caught:
        read_key(secret)
    assert secret[:20] not in str(caught.value)


def test_generate_says_where_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="cannot be written"):
        generate(tmp_path / "absent" / "key")
