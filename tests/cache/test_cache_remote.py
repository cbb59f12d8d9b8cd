"""The second tier, against a real server process on the loopback address, a plain folder, and an object store of fsspec."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cache_bazel import ActionResult
from cache_support import BIG, build, is_right, make_action, make_store, outputs_for, stored_files, tree_of
from hypothesis import given
from hypothesis import strategies as st

from axforge.cache.config import fresh_start, open_store
from axforge.cache.digest import sha256
from axforge.cache.errors import CacheError
from axforge.cache.record import Blob, parse
from axforge.cache.remote import base
from axforge.cache.remote.connect import connect
from axforge.cache.remote.protobuf import action_result, output_files
from axforge.cache.remote.schemes.http import HttpRemote
from axforge.cache.remote.tier import RECORD_FILE, Tier
from axforge.cache.store import Store
from axforge.cache.verify import verify

TREE = {"inputs": {"t": tree_of({"a": b"1", "b": b"2"})}}


@dataclass
class Server:
    """A running server: `root` holds what it stores."""

    root: Path
    port: int
    process: subprocess.Popen[str]

    def url(self, login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.port}/instance"

    def behave(self, mode: str) -> None:
        (self.root / "mode").write_text(mode)

    def requests(self) -> list[str]:
        return (self.root / "log").read_text().splitlines() if (self.root / "log").exists() else []

    def stored(self, kind: str) -> list[Path]:
        return sorted((self.root / kind).glob("*"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    root = tmp_path / "server"
    root.mkdir()
    script = Path(__file__).with_name("cache_server.py")
    process = subprocess.Popen([sys.executable, script, root], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield Server(root, int(process.stdout.readline()), process)
    process.kill()
    process.wait()


def store_with(tmp_path: Path, name: str, server: Server, mode: str = "rw", timeout: float = 20.0) -> tuple[Store, list[str]]:
    """A store of its own machine, with the server as second tier."""
    said: list[str] = []
    remote = HttpRemote(server.url(), timeout=timeout)
    store, _ = make_store(tmp_path / name, remote=Tier(remote, mode), warn=said.append)
    return store, said


def test_what_one_machine_built_another_restores(tmp_path: Path, server: Server) -> None:
    ci, _ = store_with(tmp_path, "ci", server)
    made = build(ci, b"model", tmp_path / "d1", label="yolo", changes=TREE)
    laptop, said = store_with(tmp_path, "laptop", server, "ro")
    result = build(laptop, b"model", tmp_path / "d2", changes=TREE)
    assert result.how == "restored", said
    assert is_right(tmp_path / "d2", b"model")
    assert result.record.outputs == made.record.outputs
    assert result.record.label == "yolo"
    assert laptop.blobs.read(result.record.manifests["t"]) == TREE["inputs"]["t"].manifest()
    assert said == []
    before = len(server.requests())
    assert build(laptop, b"model", tmp_path / "d3", changes=TREE).how == "restored"
    assert len(server.requests()) == before, "the second time it is here"
    assert verify(laptop).sound


def test_a_read_only_machine_sends_nothing(tmp_path: Path, server: Server) -> None:
    laptop, said = store_with(tmp_path, "laptop", server, "ro")
    build(laptop, b"model", tmp_path / "d")
    assert {line.split()[0] for line in server.requests()} == {"GET"}
    assert said == []


def test_what_is_sent_is_what_the_protocol_asks_for(tmp_path: Path, server: Server) -> None:
    """Contents by SHA-256, the action itself among them under its key; an action result in JSON that names all of them."""
    ci, said = store_with(tmp_path, "ci", server)
    record = build(ci, b"model", tmp_path / "d", changes=TREE).record
    for path in server.stored("cas"):
        assert sha256(path.read_bytes()) == path.name
    assert [path.name for path in server.stored("ac")] == [record.key]
    result = ActionResult.FromString(server.stored("ac")[0].read_bytes())
    files = {file.path: file.digest for file in result.output_files}
    assert (files["big.bin"].hash, files["big.bin"].size_bytes) == (record.output("big.bin").sha256, BIG)
    assert result.exit_code == 0
    assert result.execution_metadata.worker == "worker", "the server has added it"
    assert set(files) == {"big.bin", "small.json", RECORD_FILE, f"{RECORD_FILE}-t"}
    assert (server.root / "cas" / record.key).read_bytes().startswith(b"axforge action 1\n")
    assert parse((server.root / "cas" / files[RECORD_FILE].hash).read_bytes(), record.key) == record
    order = [line for line in server.requests() if line.startswith("PUT")]
    assert "/ac/" in order[-1], "the action result goes last"
    assert said == []


def test_equal_contents_are_sent_once(tmp_path: Path, server: Server) -> None:
    ci, _ = store_with(tmp_path, "ci", server)
    build(ci, b"model", tmp_path / "d")
    before = len([line for line in server.requests() if line.startswith("PUT")])
    build(ci, b"model", tmp_path / "d", changes={"sdk": "2"})
    puts = [line for line in server.requests() if line.startswith("PUT")][before:]
    assert len(puts) == 3, "the action, the record, and the action result"


@pytest.mark.parametrize("mode", ["500", "403", "slow", "hang", "lie", "short", "long", "html", "huge"])
def test_a_remote_in_trouble_costs_a_warning_and_a_rebuild(tmp_path: Path, server: Server, mode: str) -> None:
    ci, _ = store_with(tmp_path, "ci", server)
    build(ci, b"model", tmp_path / "d1")
    server.behave(mode)
    laptop, said = store_with(tmp_path, "laptop", server, timeout=0.5 if mode in ("hang", "slow") else 20)
    result = build(laptop, b"model", tmp_path / "d2")
    assert result.how == "ran"
    assert is_right(tmp_path / "d2", b"model")
    assert said
    assert all(sentence.startswith("The remote cache http://127.0.0.1") for sentence in said)
    assert stored_files(tmp_path / "laptop", "tmp") == []
    assert verify(laptop).sound


@pytest.mark.parametrize("mode", ["lie", "short", "long", "slow", "huge"])
def test_only_the_large_content_is_in_trouble(tmp_path: Path, server: Server, mode: str) -> None:
    """Record and action result arrive; the large output does not."""
    ci, _ = store_with(tmp_path, "ci", server)
    record = build(ci, b"model", tmp_path / "d1").record
    laptop, said = store_with(tmp_path, "laptop", server, timeout=0.5 if mode == "slow" else 20)
    remote = laptop.remote._remote  # type: ignore[union-attr]
    real = remote.get

    def get(kind: str, name: str, limit: int, sink: Any) -> bool:
        server.behave(mode if name == record.output("big.bin").sha256 else "good")
        return real(kind, name, limit, sink)

    remote.get = get  # type: ignore[method-assign]
    assert build(laptop, b"model", tmp_path / "d2").how == "ran"
    assert is_right(tmp_path / "d2", b"model")
    assert len(said) >= 1
    assert verify(laptop).sound


def test_after_grave_trouble_it_is_left_alone(tmp_path: Path, server: Server) -> None:
    server.behave("hang")
    store, said = store_with(tmp_path, "c", server, timeout=0.5)
    for number in range(5):
        build(store, b"source %d" % number, tmp_path / "d")
    assert len(server.requests()) == 1
    assert len(said) == 1
    assert "not used for the rest of this run" in said[0]


def test_it_is_left_alone_by_all_stores_of_a_process(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when each stage of a build opens its own."""
    for name, value in (("REMOTE", server.url()), ("MODE", "rw"), ("DIR", str(tmp_path / "c"))):
        monkeypatch.setenv(f"AXFORGE_CACHE_{name}", value)
    server.behave("403")
    said: list[str] = []
    for number in range(5):
        build(open_store(tmp_path, warn=said.append), b"source %d" % number, tmp_path / "d")
    assert len(server.requests()) == 1
    assert len(said) == 1


def test_a_process_that_lives_long_may_start_afresh(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("REMOTE", server.url()), ("MODE", "rw"), ("DIR", str(tmp_path / "c"))):
        monkeypatch.setenv(f"AXFORGE_CACHE_{name}", value)
    server.behave("403")
    said: list[str] = []
    build(open_store(tmp_path, warn=said.append), b"one", tmp_path / "d")
    assert stored_files(tmp_path / "c", "leases")
    fresh_start(tmp_path)
    assert not stored_files(tmp_path / "c", "leases"), "what the job used may be cleaned"
    server.behave("good")
    build(open_store(tmp_path, warn=said.append), b"two", tmp_path / "d")
    assert len(said) == 1
    assert server.stored("ac"), "the remote was asked again"


def test_a_server_that_is_gone_or_goes_away(tmp_path: Path, server: Server) -> None:
    store, said = store_with(tmp_path, "c", server)
    build(store, b"one", tmp_path / "d")
    server.process.kill()
    server.process.wait()
    build(store, b"two", tmp_path / "d")
    assert is_right(tmp_path / "d", b"two")
    assert len(said) == 1
    assert "cannot be reached" in said[0]


def test_a_content_that_the_server_dropped_is_an_ordinary_miss(tmp_path: Path, server: Server) -> None:
    ci, _ = store_with(tmp_path, "ci", server)
    record = build(ci, b"model", tmp_path / "d1").record
    (server.root / "cas" / record.output("big.bin").sha256).unlink()
    laptop, said = store_with(tmp_path, "laptop", server)
    assert build(laptop, b"model", tmp_path / "d2").how == "ran"
    assert said == []
    other, _ = store_with(tmp_path, "other", server)
    assert build(other, b"model", tmp_path / "d3").how == "restored", "what the laptop built healed the server"


def test_a_content_lost_here_is_fetched_again(tmp_path: Path, server: Server) -> None:
    store, said = store_with(tmp_path, "c", server)
    record = build(store, b"model", tmp_path / "d1").record
    store.layout.blob(record.output("big.bin").sha256).unlink()
    assert build(store, b"model", tmp_path / "d2").how == "restored"
    assert is_right(tmp_path / "d2", b"model")
    assert said == []


def forge(server: Server, key: str, record: bytes) -> None:
    """Put a record, whatever it is, behind a key on the server, all hashes in order."""
    (server.root / "cas" / sha256(record)).write_bytes(record)
    (server.root / "ac" / key).write_bytes(action_result([(RECORD_FILE, Blob(sha256(record), len(record)))], None))


def test_forged_records_are_refused(tmp_path: Path, server: Server) -> None:
    """Of another action; with other outputs than the action names; with a false xxh3; no record at all; a path for a name."""
    from dataclasses import replace

    ci, _ = store_with(tmp_path, "ci", server)
    record = build(ci, b"model", tmp_path / "d1").record
    other = build(ci, b"other", tmp_path / "d1").record
    evil = replace(record.outputs[0], name="../evil")
    swapped = (replace(record.outputs[0], sha256=other.outputs[0].sha256), record.outputs[1])
    forgeries = [
        other.to_bytes(),
        replace(record, outputs=record.outputs[:1]).to_bytes(),
        replace(record, outputs=swapped).to_bytes(),
        replace(record, outputs=(evil, record.outputs[1])).to_bytes(),
        b"nonsense",
    ]
    for number, data in enumerate(forgeries):
        forge(server, record.key, data)
        laptop, said = store_with(tmp_path, f"laptop{number}", server, "ro")
        assert build(laptop, b"model", tmp_path / "d2").how == "ran", number
        assert is_right(tmp_path / "d2", b"model")
        assert len(said) == 1, said


@pytest.mark.parametrize(
    "result", [b"", b"[]", b"{}", b"null", b'{"outputFiles": 3}', b"\xff", b'{"outputFiles": [{"path": "axforge-record"}]}']
)
def test_action_results_that_are_none(tmp_path: Path, server: Server, result: bytes) -> None:
    """A server that checks nothing (a plain WebDAV folder) may hand out anything."""
    from axforge.cache.remote.schemes.folder import FolderRemote

    store, said = make_store(tmp_path / "c")
    store.remote = Tier(FolderRemote(server.root), "ro")
    (server.root / "ac").mkdir()
    (server.root / "ac" / make_action(b"model", store).key()).write_bytes(result)
    assert build(store, b"model", tmp_path / "d").how == "ran"
    assert len(said) == 1


digests = st.builds(Blob, st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0, 2**40))


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), digests)), st.none() | digests)
def test_action_results_are_what_protobuf_reads_and_writes(files: list[tuple[str, Blob]], log: Blob | None) -> None:
    data = action_result(files, log)
    theirs = ActionResult.FromString(data)
    assert [(file.path, Blob(file.digest.hash, file.digest.size_bytes)) for file in theirs.output_files] == files
    assert theirs.HasField("stdout_digest") == (log is not None)
    theirs.execution_metadata.worker = "somebody"
    assert output_files(theirs.SerializeToString()) == files


@given(st.binary(max_size=200))
def test_any_bytes_are_an_action_result_or_a_value_error(data: bytes) -> None:
    try:
        output_files(data)
    except ValueError:
        return


def test_credentials_are_sent_and_never_shown(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    (server.root / "auth").write_text("Basic " + base64.b64encode(b"anna:p@ss").decode())
    said: list[str] = []
    tier = connect(server.url("anna:p%40ss@"), "rw")
    store, _ = make_store(tmp_path / "c", remote=tier, warn=said.append)
    build(store, b"model", tmp_path / "d", label="m")
    assert len(server.stored("ac")) == 1
    assert said == []
    (server.root / "auth").write_text("Bearer other")
    tier = connect(server.url("anna:p%40ss@"), "rw")
    store.remote = tier
    build(store, b"second", tmp_path / "d", label="m")
    assert "401" in said[0]
    everything = b"".join(path.read_bytes() for path in [*stored_files(tmp_path / "c"), *server.stored("cas")])
    for shown in (said[0], tier.describe(), repr(everything), "".join(capsys.readouterr())):
        assert "p@ss" not in shown
        assert "p%40ss" not in shown
        assert "anna" not in shown


def test_a_token_from_the_environment(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TOKEN", "s3cret"), ("REMOTE", server.url()), ("MODE", "rw"), ("DIR", str(tmp_path / "c"))):
        monkeypatch.setenv(f"AXFORGE_CACHE_{name}", value)
    (server.root / "auth").write_text("Bearer s3cret")
    said: list[str] = []
    store = open_store(tmp_path, warn=said.append)
    build(store, b"model", tmp_path / "d")
    assert (len(server.stored("ac")), said) == (1, [])


@pytest.mark.parametrize("kind", ["folder", "memory", "file"])
def test_folders_and_object_stores(tmp_path: Path, kind: str) -> None:
    if kind == "memory":
        pytest.importorskip("fsspec")
    url = {"folder": str(tmp_path / "share"), "file": f"file://{tmp_path}/share", "memory": f"memory://axforge-{tmp_path.name}"}[kind]
    said: list[str] = []
    ci, _ = make_store(tmp_path / "ci", remote=connect(url, "rw"), warn=said.append)
    build(ci, b"model", tmp_path / "d1", changes=TREE)
    laptop, _ = make_store(tmp_path / "laptop", remote=connect(url, "ro"), warn=said.append)
    assert build(laptop, b"model", tmp_path / "d2", changes=TREE).how == "restored"
    assert build(laptop, b"new", tmp_path / "d3", changes=TREE).how == "ran"
    assert is_right(tmp_path / "d2", b"model")
    assert said == []


def test_a_remote_registers_itself_for_a_scheme_and_cannot_take_one_that_is_taken() -> None:
    connect("/a/folder", "ro")
    assert {"", "file", "http", "https", base.ANY} <= set(base.SCHEMES)
    with pytest.raises(ValueError, match="https"):
        base.register("https")(lambda url, token: pytest.fail("never opened"))


def test_a_url_of_no_kind_of_remote_is_a_mistake_that_names_the_kinds() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(CacheError, match="https://") as caught:
        connect("htps://anna:secret@example.org/cache", "ro")
    assert "secret" not in str(caught.value)


def test_without_a_remote_no_kind_of_remote_is_loaded(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from axforge.cache.config import open_store; open_store(Path(sys.argv[1]));"
    script += "print(*[name for name in sys.modules if name.startswith('axforge.cache.remote')])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "AXFORGE_CACHE_REMOTE": ""}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.stdout.split(), done.returncode) == ([], 0), done.stderr


def test_a_damaged_shared_folder_is_not_believed(tmp_path: Path) -> None:
    said: list[str] = []
    ci, _ = make_store(tmp_path / "ci", remote=connect(str(tmp_path / "share"), "rw"), warn=said.append)
    build(ci, b"model", tmp_path / "d1")
    for number, path in enumerate(sorted((tmp_path / "share").rglob("*"))):
        if path.is_file():
            good = path.read_bytes()
            path.write_bytes(good[:-3] + bytes([good[-3] ^ 4]) + good[-2:])
            laptop, _ = make_store(tmp_path / f"laptop{number}", remote=connect(str(tmp_path / "share"), "ro"), warn=said.append)
            build(laptop, b"model", tmp_path / "d2")
            assert is_right(tmp_path / "d2", b"model")
            path.write_bytes(good)
    assert said


def test_an_unreachable_folder_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    said: list[str] = []
    store, _ = make_store(tmp_path / "c", remote=connect(str(tmp_path / "file" / "below"), "rw"), warn=said.append)
    build(store, b"model", tmp_path / "d")
    assert is_right(tmp_path / "d", b"model")
    assert len(said) == 1


def test_the_shared_outputs_are_what_the_stage_gives(tmp_path: Path, server: Server) -> None:
    """A check of the tests themselves: the server really holds the bytes."""
    ci, _ = store_with(tmp_path, "ci", server)
    build(ci, b"model", tmp_path / "d")
    held = {path.read_bytes() for path in server.stored("cas")}
    assert set(outputs_for(b"model").values()) <= held


def test_mirrors_are_read_in_order_and_only_the_first_is_written(tmp_path: Path, server: Server) -> None:
    near, said = tmp_path / "near", list[str]()
    ci, _ = store_with(tmp_path, "ci", server)
    build(ci, b"model", tmp_path / "d1", changes=TREE)
    url = f"mirrors://{near},{server.url('anna:secret@')}"
    assert "secret" not in connect(url, "rw").describe()
    laptop, _ = make_store(tmp_path / "laptop", remote=connect(url, "rw"), warn=said.append)
    assert build(laptop, b"model", tmp_path / "d2", changes=TREE).how == "restored"
    before = len(server.stored("ac"))
    assert build(laptop, b"new", tmp_path / "d3", changes=TREE).how == "ran"
    assert (len(server.stored("ac")), len(list((near / "ac").iterdir()))) == (before, 1)
    asked = len(server.requests())
    other, _ = make_store(tmp_path / "other", remote=connect(url, "ro"), warn=said.append)
    assert build(other, b"new", tmp_path / "d4", changes=TREE).how == "restored"
    assert (len(server.requests()), said) == (asked, []), "what the first has is not asked of the second"


def test_a_mirror_that_is_gone_is_skipped(tmp_path: Path, server: Server) -> None:
    ci, _ = store_with(tmp_path, "ci", server)
    build(ci, b"model", tmp_path / "d1")
    said: list[str] = []
    url = f"mirrors://http://127.0.0.1:1/nobody,{server.url()}"
    laptop, _ = make_store(tmp_path / "laptop", remote=connect(url, "ro"), warn=said.append)
    assert build(laptop, b"model", tmp_path / "d2").how == "restored"
    assert said == [], "another one had it"
    laptop, _ = make_store(tmp_path / "desk", remote=connect(url, "ro"), warn=said.append)
    assert build(laptop, b"new", tmp_path / "d3").how == "ran"
    assert len(said) == 1
    assert "127.0.0.1:1/nobody cannot be reached" in said[0]
    assert build(laptop, b"model", tmp_path / "d4").how == "restored", "the other one is still asked"
    server.process.kill()
    server.process.wait()
    assert build(laptop, b"newer", tmp_path / "d5").how == "ran"
    assert "not used for the rest of this run" in said[-1]


def test_a_mirror_that_breaks_off_costs_a_rebuild_and_no_wrong_byte(tmp_path: Path, server: Server) -> None:
    """The second remote is not asked for the rest of a content: the part that came is already in the file."""
    ci, _ = store_with(tmp_path, "ci", server)
    build(ci, b"model", tmp_path / "d1")
    share, said = tmp_path / "share", list[str]()
    shutil.copytree(server.root, share, ignore=shutil.ignore_patterns("log", "mode"))
    server.behave("short")
    laptop, _ = make_store(tmp_path / "laptop", remote=connect(f"mirrors://{server.url()},{share}", "ro"), warn=said.append)
    build(laptop, b"model", tmp_path / "d2")
    assert "broke off" in said[0]
    assert is_right(tmp_path / "d2", b"model")
    assert verify(laptop).sound


@pytest.mark.parametrize("url", ["mirrors://", "mirrors:///a,,/b", "mirrors:///a,mirrors:///b"])
def test_a_list_of_mirrors_with_an_empty_or_nested_entry_is_a_mistake(url: str) -> None:
    with pytest.raises(CacheError, match="mirrors://https://"):
        connect(url, "ro")
