"""Large contents travel in pieces: only what changed is sent and received, and a list of pieces is believed no more than anything else."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cache_bazel import ActionResult
from cache_support import make_store
from test_cache_remote import Server, server, store_with  # noqa: F401 (a fixture)

from axforge.cache.build import Obtained, obtain
from axforge.cache.digest import sha256
from axforge.cache.key import Action
from axforge.cache.record import Blob
from axforge.cache.remote import chunks
from axforge.cache.remote.protobuf import action_result, output_files
from axforge.cache.remote.tier import CHUNKS_FILE, RECORD_FILE
from axforge.cache.store import Store
from axforge.cache.verify import verify

SMALL = pytest.mark.usefixtures("small")
BACKBONE, HEAD = random.Random(1).randbytes(700_000), 16_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 16 kB instead of 1 MB, so that files may be small, too."""
    monkeypatch.setattr(chunks, "LARGE", 100_000)
    monkeypatch.setattr(chunks, "BITS", 14)


def trained(seed: int) -> bytes:
    """A file whose last part is another one for each seed."""
    return BACKBONE + random.Random(seed).randbytes(HEAD)


def build(store: Store, seed: int, dest: Path) -> Obtained:
    """A stage that gives `trained(seed)`."""

    def run(work: Path) -> None:
        (work / "weights.bin").write_bytes(trained(seed))

    return obtain(store, Action("train", 1, {"seed": sha256(b"%d" % seed)}, {}, ("weights.bin",)), dest, run, label="m")


def sizes(server: Server, verb: str, since: int = 0) -> int:  # noqa: F811
    """Bytes of the contents that went over the wire from a request on."""
    names = [line.rpartition("/")[2] for line in server.requests()[since:] if line.startswith(f"{verb} ") and "/cas/" in line]
    return sum((server.root / "cas" / name).stat().st_size for name in names if (server.root / "cas" / name).exists())


# --- cutting -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 31, 32, 33, 1 << 20, (5 << 20) + 17])
def test_pieces_make_up_the_content_and_keep_their_bounds(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    found = list(chunks.pieces(tmp_path / "f"))
    assert b"".join(found) == data
    assert all(len(piece) <= 4 << 20 for piece in found)
    assert all(len(piece) >= 1 << 18 for piece in found[:-1])
    assert [bytes(piece) for piece in chunks.cut(memoryview(data))] == found


def test_zeros_and_repetition_are_cut_at_the_upper_bound() -> None:
    for data in (bytes(300_000), b"ab" * 150_000):
        found = list(map(bytes, chunks.cut(memoryview(data), 14)))
        assert b"".join(found) == data
        assert max(map(len, found)) <= 4 << 14


def test_cuts_do_not_depend_on_how_the_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [len(piece) for piece in chunks.cut(memoryview(BACKBONE), 14)]
    places = list(chunks._candidates(memoryview(BACKBONE[:5000]), 8))
    assert 20 < len(expected) < 80
    assert len(places) > 5
    for block in (1, 31, 32, 33, 1000):
        monkeypatch.setattr(chunks, "_BLOCK", block)
        assert list(chunks._candidates(memoryview(BACKBONE[:5000]), 8)) == places
    for block in (1000, (1 << 16) + 13, 1 << 20):
        monkeypatch.setattr(chunks, "_BLOCK", block)
        assert [len(piece) for piece in chunks.cut(memoryview(BACKBONE), 14)] == expected


def test_cuts_are_those_of_every_version() -> None:
    """Other cuts would make everything be sent again."""
    data = b"".join(sha256(b"%d" % number).encode() for number in range(1 << 16))
    assert [len(piece) for piece in chunks.cut(memoryview(data), 16)][:4] == [135173, 71320, 97287, 163514]


def test_inserted_bytes_change_the_pieces_around_them_only() -> None:
    before = {sha256(bytes(piece)) for piece in chunks.cut(memoryview(BACKBONE), 14)}
    moved = BACKBONE[:300_000] + b"inserted" + BACKBONE[300_000:]
    after = {sha256(bytes(piece)) for piece in chunks.cut(memoryview(moved), 14)}
    assert len(after - before) <= 2


# --- travelling ----------------------------------------------------------------------------------------------------------------


@SMALL
def test_only_what_changed_is_sent_and_received(tmp_path: Path, server: Server) -> None:  # noqa: F811
    ci, said = store_with(tmp_path, "ci", server)
    laptop, heard = store_with(tmp_path, "laptop", server, "ro")
    build(ci, 1, tmp_path / "a")
    assert build(laptop, 1, tmp_path / "b").how == "restored"
    since = len(server.requests())
    build(ci, 2, tmp_path / "a")
    assert HEAD <= sizes(server, "PUT", since) < 150_000
    since = len(server.requests())
    assert build(laptop, 2, tmp_path / "b").how == "restored"
    assert HEAD <= sizes(server, "GET", since) < 150_000
    assert (tmp_path / "b" / "weights.bin").read_bytes() == trained(2)
    assert (said, heard, verify(laptop).sound) == ([], [], True)
    fresh, _ = store_with(tmp_path, "fresh", server, "ro")
    assert build(fresh, 2, tmp_path / "c").how == "restored", "and without anything to begin with"
    assert (tmp_path / "c" / "weights.bin").read_bytes() == trained(2)


@SMALL
def test_a_server_of_bazel_sees_every_piece(tmp_path: Path, server: Server) -> None:  # noqa: F811
    """It keeps and checks what an action result names; a whole file that is not there would make it refuse."""
    ci, said = store_with(tmp_path, "ci", server)
    record = build(ci, 1, tmp_path / "a").record
    result = ActionResult.FromString(server.stored("ac")[0].read_bytes())
    files = {file.path: file.digest for file in result.output_files}
    named = {digest.hash for path, digest in files.items() if path.startswith(f"{CHUNKS_FILE}-")}
    lists = chunks.decode((server.root / "cas" / files[CHUNKS_FILE].hash).read_bytes())
    content = record.outputs[0].sha256
    assert {piece.sha256 for piece in lists[content]} == named
    assert content not in {path.name for path in server.stored("cas")}
    assert said == []


@SMALL
def test_a_piece_that_the_server_dropped_is_an_ordinary_miss(tmp_path: Path, server: Server) -> None:  # noqa: F811
    ci, _ = store_with(tmp_path, "ci", server)
    build(ci, 1, tmp_path / "a")
    piece = next(piece for piece in chunks.pieces(tmp_path / "a" / "weights.bin"))
    (server.root / "cas" / sha256(piece)).unlink()
    other, said = store_with(tmp_path, "other", server)
    assert build(other, 1, tmp_path / "b").how == "ran"
    third, heard = store_with(tmp_path, "third", server, "ro")
    assert build(third, 1, tmp_path / "c").how == "restored", "the run has put it back"
    assert (said, heard) == ([], [])


@SMALL
def test_a_large_content_lost_here_is_fetched_again(tmp_path: Path, server: Server) -> None:  # noqa: F811
    store, said = store_with(tmp_path, "ci", server)
    record = build(store, 1, tmp_path / "a").record
    store.layout.blob(record.outputs[0].sha256).unlink()
    assert build(store, 1, tmp_path / "b").how == "restored"
    assert (tmp_path / "b" / "weights.bin").read_bytes() == trained(1)
    assert said == []


@SMALL
def test_a_file_here_that_is_damaged_gives_no_wrong_piece(tmp_path: Path, server: Server) -> None:  # noqa: F811
    ci, _ = store_with(tmp_path, "ci", server)
    laptop, said = store_with(tmp_path, "laptop", server, "ro")
    for seed in (1, 2):
        build(ci, seed, tmp_path / "a")
    record = build(laptop, 1, tmp_path / "b").record
    blob = laptop.layout.blob(record.outputs[0].sha256)
    blob.chmod(0o644)
    with blob.open("r+b") as stream:
        stream.seek(200_000)
        stream.write(b"damage")
    assert build(laptop, 2, tmp_path / "c").how == "restored"
    assert (tmp_path / "c" / "weights.bin").read_bytes() == trained(2)
    assert said == []


@SMALL
def test_what_is_damaged_here_is_not_sent(tmp_path: Path, server: Server) -> None:  # noqa: F811
    alone, _ = make_store(tmp_path / "ci")
    record = build(alone, 1, tmp_path / "a").record
    blob = alone.layout.blob(record.outputs[0].sha256)
    blob.chmod(0o644)
    blob.write_bytes(bytes(len(trained(1))))
    ci, said = store_with(tmp_path, "ci", server)
    assert ci.remote is not None
    ci.remote.push(ci, record)
    assert "damaged here" in said[0]
    assert server.stored("ac") == []


Change = Callable[[dict[str, tuple[Blob, ...]], str], object]


def forgeries() -> Iterator[tuple[str, Change]]:
    """Lists of pieces that are not those of the content."""
    yield "nothing", lambda lists, name: lists.update({name: ()})
    yield "one is missing", lambda lists, name: lists.update({name: lists[name][1:]})
    yield "another order", lambda lists, name: lists.update({name: lists[name][::-1]})
    yield (
        "one twice for another",
        lambda lists, name: lists.update({name: (*lists[name][:-1], Blob(lists[name][0].sha256, lists[name][-1].size))}),
    )
    yield "too many", lambda lists, name: lists.update({name: lists[name] * 2})
    yield "a size of a terabyte", lambda lists, name: lists.update({name: (Blob("0" * 64, 1 << 40),)})
    yield "no size", lambda lists, name: lists.update({name: (Blob("0" * 64, True), *lists[name])})
    yield "a negative size", lambda lists, name: lists.update({name: (Blob("0" * 64, -1), *lists[name])})
    yield "a path", lambda lists, name: lists.update({name: (Blob("../../evil", 1), *lists[name])})
    yield "under a path", lambda lists, name: lists.update({"../evil": lists[name]})


@pytest.mark.parametrize(("what", "change"), list(forgeries()), ids=[what for what, _ in forgeries()])
@SMALL
def test_a_forged_list_costs_a_warning_and_a_run(tmp_path: Path, server: Server, what: str, change: Change) -> None:  # noqa: F811
    ci, _ = store_with(tmp_path, "ci", server)
    record = build(ci, 1, tmp_path / "a").record
    files = dict(output_files(server.stored("ac")[0].read_bytes()))
    lists = chunks.decode((server.root / "cas" / files[CHUNKS_FILE].sha256).read_bytes())
    change(lists, record.outputs[0].sha256)
    put_list(server, record.key, files[RECORD_FILE], chunks.encode(lists))
    laptop, said = store_with(tmp_path, "laptop", server, "ro")
    assert build(laptop, 1, tmp_path / "b").how == "ran"
    assert (tmp_path / "b" / "weights.bin").read_bytes() == trained(1)
    assert len(said) == 1, said


def put_list(server: Server, key: str, record: Blob, data: bytes) -> None:  # noqa: F811
    """An action result on the server with this list of pieces, all hashes in order."""
    (server.root / "cas" / sha256(data)).write_bytes(data)
    result = action_result([(RECORD_FILE, record), (CHUNKS_FILE, Blob(sha256(data), len(data)))], None)
    (server.root / "ac" / key).write_bytes(result)


@pytest.mark.parametrize("data", [b"[]", b"3", b'{"a": 3}', b'{"a": [3]}', b'{"a": [[1, 2, 3]]}', b"\xff", b"[" * 9999])
@SMALL
def test_what_is_no_list_costs_a_warning_and_a_run(tmp_path: Path, server: Server, data: bytes) -> None:  # noqa: F811
    ci, _ = store_with(tmp_path, "ci", server)
    record = build(ci, 1, tmp_path / "a").record
    files = dict(output_files(server.stored("ac")[0].read_bytes()))
    put_list(server, record.key, files[RECORD_FILE], data)
    laptop, said = store_with(tmp_path, "laptop", server, "ro")
    assert build(laptop, 1, tmp_path / "b").how == "ran"
    assert "malformed list of pieces" in said[0]
