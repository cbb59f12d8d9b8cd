"""Somebody who may write to a shared cache folder puts links and pipes there: nothing outside is written, nothing waits, all is right."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cache_support import build, is_right, make_store

from axforge.cache.config import Config, open_store
from axforge.cache.gc import Wanted, clean
from axforge.cache.remote.connect import connect
from axforge.cache.store import Store
from axforge.cache.trust import Trust
from axforge.signatures import PrivateKey

CI = PrivateKey.generate()


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Whatever waits for a pipe is ended."""

    def late(number: int, frame: object) -> None:
        raise AssertionError("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def with_result(tmp_path: Path) -> Store:
    """A cache that has a result."""
    store, _ = make_store(tmp_path / "c", size_limit=10**9)
    build(store, b"model", tmp_path / "made", label="m")
    store.close()
    return store


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("below", ["stats", "usage", "locks", "ac", "cas", "leases"])
def test_a_link_or_a_pipe_in_place_of_a_file(tmp_path: Path, below: str, kind: str) -> None:
    before = with_result(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("# mine\n")
    place = before.layout.base / below
    files = [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else [place]
    for path in files or [place / "x-1-2"]:
        path.unlink(missing_ok=True)
        if kind == "link":
            path.symlink_to(victim)
        else:
            os.mkfifo(path)
    store, _ = make_store(tmp_path / "c", size_limit=10**9)
    for source in (b"model", b"other"):
        build(store, source, tmp_path / source.decode(), label="echo evil")
        assert is_right(tmp_path / source.decode(), source)
    store.close()
    clean(store, Wanted(model="m"))
    assert victim.read_text() == "# mine\n"


def test_a_pipe_in_a_shared_folder_of_a_remote(tmp_path: Path) -> None:
    ci, _ = make_store(tmp_path / "ci", remote=connect(str(tmp_path / "share"), "rw"))
    build(ci, b"model", tmp_path / "made")
    for path in (tmp_path / "share").rglob("*"):
        if path.is_file():
            path.unlink()
            os.mkfifo(path)
    store, said = make_store(tmp_path / "c", remote=connect(str(tmp_path / "share"), "ro"))
    assert build(store, b"model", tmp_path / "d").how == "ran"
    assert "not a regular file" in said[0]


def test_a_folder_that_others_may_write_to_is_not_taken_for_the_private_one(tmp_path: Path) -> None:
    """By a link to one of the user's own folders, or by its rights: either way somebody else could put a key or an entry there."""
    store = with_result(tmp_path)
    theirs = tmp_path / "group"
    theirs.mkdir()
    (theirs / "note-signing-key").write_bytes(PrivateKey.generate().pem())
    store.index.rename(tmp_path / "away")
    store.index.symlink_to(theirs)
    linked, _ = make_store(tmp_path / "c", trust=Trust([CI.public]))
    assert linked.files.note("x") is None
    assert linked.trust is not None
    assert linked.trust.signer is None
    store.index.unlink()
    store.index.mkdir()
    store.index.chmod(0o775)
    assert make_store(tmp_path / "c")[0].files.note("x") is None
    store.index.chmod(0o700)
    assert make_store(tmp_path / "c")[0].files.note("x") is not None


def test_with_trusted_keys_what_is_private_is_not_in_the_shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for folder in ("one", "two"):
        store = open_store(tmp_path, config=Config(dir=tmp_path / folder, trusted_keys=(str(CI.public),)))
        build(store, b"model", tmp_path / "d", scope="/ws", label="m")
        assert tmp_path / "home" / "axforge" / "private" in store.index.parents
        assert list((tmp_path / folder / "v1" / "index").iterdir()) == []
    assert len(list((tmp_path / "home" / "axforge" / "private").glob("*/note-signing-key"))) == 2
