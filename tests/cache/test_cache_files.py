"""The stat index: files that did not change are not read again; files that did are never taken for unchanged."""

import os
import time
import zlib
from pathlib import Path

import pytest
from cache_support import make_action, make_store, stored_files

from axforge.cache import digest, files
from axforge.cache.build import obtain
from axforge.cache.digest import sha256
from axforge.cache.errors import CacheError
from axforge.cache.files import Files


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files that are really read, in order."""
    read: list[str] = []
    real = digest.hash_file

    def counting(path: str | Path, *, strong: bool = True) -> object:
        read.append(os.path.basename(path))
        return real(path, strong=strong)

    monkeypatch.setattr(files, "hash_file", counting)
    return read


def settle(*paths: Path) -> None:
    """Make files look as if they had been written a while ago: wait until their stamps are older than a tick."""
    time.sleep(0.05)


def test_an_unchanged_file_is_read_once_even_by_other_processes(tmp_path: Path, hashed: list[str]) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"weights")
    settle(file)
    for _ in range(3):
        assert Files(tmp_path / "index").digest(file).sha256 == sha256(b"weights")
    assert hashed == ["model.onnx"]


def test_many_files_of_many_folders(tmp_path: Path, hashed: list[str]) -> None:
    paths = [tmp_path / f"d{i % 3}" / f"{i}.jpg" for i in range(30)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(path.name.encode())
    settle()
    for _ in range(2):
        assert [d.sha256 for d in Files(tmp_path / "index").digests(paths)] == [sha256(p.name.encode()) for p in paths]
    assert len(hashed) == 30
    assert len(list((tmp_path / "index").glob("*.json"))) == 3


def test_an_edit_within_the_same_tick_with_the_same_size_is_seen(tmp_path: Path) -> None:
    """Written, hashed and written again at once, a hundred times, with mtime put back: never the old answer."""
    file, files = tmp_path / "f", Files(tmp_path / "index")
    for number in range(100):
        first, second = b"%06d" % number, b"x%05d" % number
        file.write_bytes(first)
        stamp = file.stat()
        assert files.digest(file).sha256 == sha256(first)
        with open(file, "r+b") as stream:
            stream.write(second)
        os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert files.digest(file).sha256 == sha256(second)


def test_an_edit_with_size_and_mtime_preserved_is_seen_much_later(tmp_path: Path) -> None:
    file, files = tmp_path / "f", Files(tmp_path / "index")
    file.write_bytes(b"before")
    settle(file)
    assert files.digest(file).sha256 == sha256(b"before")
    stamp = file.stat()
    file.write_bytes(b"after!")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert files.digest(file).sha256 == sha256(b"after!")


def test_a_file_replaced_by_an_older_one_of_the_same_size_is_seen(tmp_path: Path) -> None:
    """`mv other f`, `cp -p`: mtime goes backwards or stays equal."""
    file, other, files = tmp_path / "f", tmp_path / "other", Files(tmp_path / "index")
    other.write_bytes(b"older!")
    file.write_bytes(b"newer!")
    os.utime(other, ns=(file.stat().st_mtime_ns, file.stat().st_mtime_ns))
    settle()
    assert files.digest(file).sha256 == sha256(b"newer!")
    os.replace(other, file)
    assert files.digest(file).sha256 == sha256(b"older!")


def test_touching_a_large_file_costs_xxh3_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "LAZY_FROM", 1000)
    file = tmp_path / "large"
    file.write_bytes(b"w" * 5000)
    settle()
    first = Files(tmp_path / "index").digest(file)
    assert not first.named
    assert first.sha256 == sha256(b"w" * 5000)
    os.utime(file)
    settle()
    again = Files(tmp_path / "index").digest(file)
    assert again.named
    assert again.sha256 == first.sha256
    copy = tmp_path / "elsewhere"
    copy.write_bytes(b"w" * 5000)
    assert Files(tmp_path / "index").digest(copy).named


def test_a_collision_of_xxh3_never_reaches_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index says that bytes with this xxh3 have another SHA-256, as after a crafted collision: the record gets the true key."""
    monkeypatch.setattr(digest, "LAZY_FROM", 1000)
    store, _ = make_store(tmp_path / "c")
    file = tmp_path / "large"
    file.write_bytes(b"w" * 5000)
    settle()
    body = f"{digest.xxh3(b'w' * 5000)} 5000 {'ab' * 32}"
    store.index.mkdir(parents=True, exist_ok=True)
    (store.index / f"content-{body[:2]}").write_text(f"{body} {zlib.crc32(body.encode()):08x}\n")
    action = make_action(file, store)
    assert action.key() == make_action(file, store, inputs={"model.onnx": "ab" * 32}).key(), "it was misled"

    def run(work: Path) -> None:
        for name in action.outputs:
            (work / name).write_bytes(b"")

    record = obtain(store, action, tmp_path / "d", run).record
    assert record.action["inputs"]["model.onnx"]["sha256"] == sha256(b"w" * 5000)
    assert [path.name for path in stored_files(tmp_path / "c", "ac")] == [record.key]


def test_a_large_file_that_changes_before_its_name_is_asked_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "LAZY_FROM", 1000)
    file = tmp_path / "large"
    file.write_bytes(b"w" * 5000)
    found = Files(None).digest(file)
    file.write_bytes(b"v" * 5000)
    with pytest.raises(CacheError, match="changed while it was in use"):
        _ = found.sha256


@pytest.mark.parametrize("bit", range(0, 8))
def test_a_flipped_bit_anywhere_in_the_index_gives_no_wrong_answer(tmp_path: Path, bit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "LAZY_FROM", 10)
    file = tmp_path / "f"
    file.write_bytes(b"twenty bytes of text")
    settle()
    assert Files(tmp_path / "index").digest(file).sha256 == sha256(b"twenty bytes of text")
    for index in sorted((tmp_path / "index").iterdir()):
        good = index.read_bytes()
        for position in range(0, len(good)):
            index.write_bytes(good[:position] + bytes([good[position] ^ 1 << bit]) + good[position + 1 :])
            assert Files(tmp_path / "index").digest(file).sha256 == sha256(b"twenty bytes of text")
        index.write_bytes(good)


def test_an_index_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a folder to somebody else")
    index = tmp_path / "index"
    index.mkdir()
    os.chown(index, 12345, 12345)
    (tmp_path / "f").write_bytes(b"x")
    settle()
    assert Files(index).digest(tmp_path / "f").sha256 == sha256(b"x")
    assert list(index.iterdir()) == []


@pytest.mark.parametrize("kind", ["absent", "folder", "fifo"])
def test_what_is_no_readable_file_is_a_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    if kind == "folder":
        path.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(CacheError, match=str(path)):
        Files(None).digest(path)


def test_a_file_that_is_being_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "growing"
    file.write_bytes(b"x")
    real = digest.read_into

    def grow(stream: object, hasher: object) -> None:
        real(stream, hasher)  # type: ignore[arg-type]
        with open(file, "ab") as more:
            more.write(b"y")

    monkeypatch.setattr(digest, "read_into", grow)
    with pytest.raises(CacheError, match="written to"):
        Files(None).digest(file)
