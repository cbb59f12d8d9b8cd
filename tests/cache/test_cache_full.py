"""A full disk and a cache that may only be read: the build goes on without keeping, and says so."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cache_support import BIG, build, is_right, make_store, stored_files

from axforge.cache.cli import main
from axforge.cache.errors import CacheError
from axforge.cache.gc import Wanted, clean
from axforge.cache.verify import verify


def in_child(work: Callable[[], None], user: int = 0) -> None:
    """Run `work` in a forked child, as another user if given, and fail if it fails."""
    pid = os.fork()
    if pid == 0:
        try:
            if user:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            work()
            os._exit(0)
        except BaseException as error:
            print(f"child: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("limit", [0, 1, 100, 1000, BIG - 1])
def test_no_room_for_a_result(tmp_path: Path, limit: int) -> None:
    """The kernel refuses every write beyond `limit` bytes of a file (EFBIG), as a full disk does, wherever that happens to be."""

    def work() -> None:
        store, said = make_store(tmp_path / "c", link=False)
        with store.work():
            pass
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        made = tmp_path / "made"
        made.mkdir()
        from cache_support import make_action, outputs_for

        for name, data in outputs_for(b"model").items():
            (made / name).write_bytes(data)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        record = store.put(make_action(b"model", store), made, {"label": "m"})
        assert not record.stored
        assert len(said) == 1, said
        assert "no room" in said[0]

    in_child(work)
    assert stored_files(tmp_path / "c", "ac") == []
    assert stored_files(tmp_path / "c", "tmp") == []
    store, said = make_store(tmp_path / "c")
    assert verify(store).sound
    build(store, b"model", tmp_path / "dest")
    assert is_right(tmp_path / "dest", b"model")
    assert said == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"needs to mount a small file system ({made.stderr.strip()})")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, tmp_path: Path) -> None:
    """Each build adds 1.5 MB to a disk of 3 MB: those that fit are kept, the others are built without; then cleaning makes room."""
    store, said = make_store(small_disk / "c")
    for number in range(4):
        source = b"source %d" % number
        build(store, source, tmp_path / f"dest{number}")
        assert is_right(tmp_path / f"dest{number}", source)
    assert verify(store).sound
    assert stored_files(small_disk / "c", "tmp") == []
    assert stored_files(small_disk / "c", "ac")
    assert any("no room" in sentence for sentence in said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dest0", "dest1", "dest2", "dest3", "small"]
    store.close()
    clean(store, Wanted(all=True))
    assert build(store, b"source 3", tmp_path / "dest3").record.stored
    store.close()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A cache with one result, that may only be read; and the user to be (root may write everywhere)."""
    private = [path for path in (tmp_path, *tmp_path.parents) if not path.stat().st_mode & 0o001]
    for path in private:  # so that the other user gets there
        path.chmod(0o711)
    store, _ = make_store(tmp_path / "c")
    build(store, b"model", tmp_path / "dest", label="m")
    store.close()
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    folders = [tmp_path / "c", *(path for path in (tmp_path / "c").rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield tmp_path, 65534 if os.geteuid() == 0 else 0
    for folder in folders:
        folder.chmod(0o755)
    for path in private:
        path.chmod(0o700)


def test_a_read_only_cache_is_used_and_left_as_it_is(read_only: tuple[Path, int]) -> None:
    base, user = read_only
    before = {path: path.stat().st_mtime_ns for path in (base / "c").rglob("*")}

    def work() -> None:
        store, said = make_store(base / "c")
        assert build(store, b"model", base / "out" / "hit").how == "restored"
        assert is_right(base / "out" / "hit", b"model")
        assert said == []
        for number in range(2):
            result = build(store, b"new", base / "out" / f"miss{number}", label="m", scope="/ws")
            assert result.how == "ran"
            assert not result.record.stored
            assert is_right(base / "out" / f"miss{number}", b"new")
        assert len(said) == 1, said
        assert "cannot be written" in said[0]

    in_child(work, user)
    assert {path: path.stat().st_mtime_ns for path in (base / "c").rglob("*")} == before


def test_damage_in_a_read_only_cache_is_not_handed_out(read_only: tuple[Path, int]) -> None:
    base, user = read_only
    for path in stored_files(base / "c", "cas"):
        path.chmod(0o644)
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        path.chmod(0o444)

    def work() -> None:
        store, said = make_store(base / "c")
        assert build(store, b"model", base / "out" / "d").how == "ran"
        assert is_right(base / "out" / "d", b"model")
        assert any("read only" in sentence for sentence in said)

    in_child(work, user)


def test_cleaning_a_read_only_cache_is_a_sentence(read_only: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    base, user = read_only
    monkeypatch.setenv("AXFORGE_CACHE_DIR", str(base / "c"))

    def work() -> None:
        os.chdir("/")
        assert main(["clean", "--all"]) == 1
        assert main(["inspect"]) == 0
        assert main(["verify"]) == 0

    in_child(work, user)
    assert len(stored_files(base / "c", "ac")) == 1


@pytest.mark.parametrize("kind", ["file", "unreachable"])
def test_a_cache_that_cannot_be_had_at_all(tmp_path: Path, kind: str) -> None:
    """The configured place is a file, or lies below one: results are not kept, and everything else works."""
    (tmp_path / "f").write_bytes(b"")
    store, said = make_store(tmp_path / "f" if kind == "file" else tmp_path / "f" / "below")
    for number in range(2):
        assert build(store, b"model", tmp_path / f"d{number}", scope="/ws").how == "ran"
        assert is_right(tmp_path / f"d{number}", b"model")
    assert len(said) == 1, said


@pytest.mark.parametrize("cached", [True, False])
def test_a_destination_that_cannot_be_is_a_sentence(tmp_path: Path, cached: bool) -> None:
    store, _ = make_store(tmp_path / "c")
    if cached:
        build(store, b"model", tmp_path / "d")
    (tmp_path / "taken").write_bytes(b"a file")
    with pytest.raises(CacheError, match="cannot be written there"):
        build(store, b"model", tmp_path / "taken" / "dest")
    store.close()
    clean(store, Wanted(unreachable=True))
    assert stored_files(tmp_path / "c", "tmp") == []
