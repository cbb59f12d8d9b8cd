"""Cleaning removes what was named, says it first when asked to, keeps what running builds use, and holds the size limit by itself."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from cache_support import BIG, build, is_right, make_action, make_store, stored_files
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.cache import gc
from axforge.cache.build import obtain
from axforge.cache.gc import Wanted, clean
from axforge.cache.key import Action
from axforge.cache.store import Store


def filled(root: Path, ages: dict[bytes, float], **options: object) -> Store:
    """A store with a result for each source, last used so many seconds ago; the label is the source's first letter."""
    store, _ = make_store(root, **options)
    for source, age in ages.items():
        build(store, source, root.parent / "dest", label=source.decode()[0])
        record = store.layout.record(make_action(source, store).key())
        os.utime(record, (time.time() - age,) * 2)
    store.close()
    return store


def left(store: Store, sources: dict[bytes, float]) -> set[bytes]:
    return {source for source in sources if store.record(make_action(source, store).key()) is not None}


AGES = {b"a-old": 40 * 86400.0, b"a-new": 10.0, b"b-old": 35 * 86400.0, b"b-mid": 5 * 86400.0}


@pytest.mark.parametrize(
    ("wanted", "stay"),
    [
        (Wanted(all=True), set()),
        (Wanted(older_than=30 * 86400), {b"a-new", b"b-mid"}),
        (Wanted(model="a"), {b"b-old", b"b-mid"}),
        (Wanted(model="a", older_than=30 * 86400), {b"a-new", b"b-old", b"b-mid"}),
        (Wanted(keep_size=2 * BIG + 20_000), {b"a-new", b"b-mid"}),
        (Wanted(keep_size=10 * BIG), set(AGES)),
        (Wanted(keep_size=0), set()),
        (Wanted(unreachable=True), set(AGES)),
        (Wanted(older_than=36 * 86400, keep_size=2 * BIG + 20_000), {b"a-new", b"b-mid"}),
        (Wanted(model="nobody"), set(AGES)),
    ],
)
def test_what_goes_and_what_stays(tmp_path: Path, wanted: Wanted, stay: set[bytes]) -> None:
    store = filled(tmp_path / "c", AGES)
    before = {path: path.stat().st_mtime_ns for path in stored_files(tmp_path / "c")}
    announced = clean(store, wanted, dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in stored_files(tmp_path / "c") if path.name != "store"} == {
        path: stamp for path, stamp in before.items() if path.name != "store"
    }
    done = clean(store, wanted)
    assert announced is not None
    assert done is not None
    assert {**announced.to_json(), "dry_run": False} == done.to_json()
    assert left(store, AGES) == stay
    assert done.bytes_left == sum(p.stat().st_size for p in stored_files(tmp_path / "c", "ac") + stored_files(tmp_path / "c", "cas"))
    assert len(stored_files(tmp_path / "c", "ac")) == len(stay)
    for source in AGES:
        build(store, source, tmp_path / "dest")
        assert is_right(tmp_path / "dest", source)


def test_a_content_stays_while_any_record_needs_it(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    build(store, b"model", tmp_path / "d", label="one")
    build(store, b"model", tmp_path / "d", label="two", changes={"sdk": "2"})
    store.close()
    clean(store, Wanted(model="one"))
    assert build(store, b"model", tmp_path / "d", changes={"sdk": "2"}).how == "restored"
    assert build(store, b"model", tmp_path / "d").how == "ran"


def test_unreachable_are_contents_without_record_and_records_without_content(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    whole = build(store, b"whole", tmp_path / "d").record
    broken = build(store, b"broken", tmp_path / "d").record
    store.layout.blob(broken.output("big.bin").sha256).unlink()
    store.blobs.keep_bytes("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", b"hello")
    store.close()
    report = clean(store, Wanted(unreachable=True))
    assert report is not None
    assert [entry.record.key for entry in report.records] == [broken.key]
    assert "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" in report.contents
    assert build(store, b"whole", tmp_path / "d").record.key == whole.key


def _use_and_wait(root: Path, base: Path, ready: str) -> None:
    store = Store(root, durable=False)
    build(store, b"model", base / "dest")
    (base / ready).touch()
    time.sleep(60)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_running_build_uses_stays_until_it_ends_however_it_ends(tmp_path: Path, ending: signal.Signals) -> None:
    store = filled(tmp_path / "c", {b"model": 1e7, b"other": 1e7})
    process = multiprocessing.get_context("fork").Process(target=_use_and_wait, args=(tmp_path / "c", tmp_path, "ready"))
    process.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    report = clean(store, Wanted(all=True))
    assert report is not None
    assert report.kept_in_use == 1
    assert left(store, {b"model": 0, b"other": 0}) == {b"model"}
    assert process.pid is not None
    os.kill(process.pid, ending)
    process.join(10)
    report = clean(store, Wanted(all=True))
    assert report is not None
    assert report.kept_in_use == 0
    assert stored_files(tmp_path / "c", "cas") == []


def _work_and_wait(root: Path, base: Path) -> None:
    store = Store(root, durable=False)

    def run(work: Path) -> None:
        (work / "big.bin").write_bytes(b"1")
        (base / "ready").touch()
        while not (base / "go").exists():
            time.sleep(0.01)
        (work / "small.json").write_bytes(b"2")

    obtain(store, make_action(b"model", store), base / "dest", run)


def test_the_work_folder_of_a_running_stage_stays(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    process = multiprocessing.get_context("fork").Process(target=_work_and_wait, args=(tmp_path / "c", tmp_path))
    process.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    clean(store, Wanted(all=True))
    (tmp_path / "go").touch()
    process.join(10)
    assert process.exitcode == 0
    assert (tmp_path / "dest" / "big.bin").read_bytes() == b"1"


def test_the_size_limit_is_kept_and_the_last_used_stay(tmp_path: Path) -> None:
    store, said = make_store(tmp_path / "c", size_limit=4 * BIG)
    for number in range(12):
        build(store, b"source %d" % number, tmp_path / "dest")
        store.close()  # the build is over: its results may go
        assert sum(p.stat().st_size for p in stored_files(tmp_path / "c", "cas")) <= 4 * BIG + 1000
    assert build(store, b"source 11", tmp_path / "dest").how == "restored"
    assert build(store, b"source 0", tmp_path / "dest").how == "ran"
    assert said == []


def test_one_build_larger_than_the_limit_is_told_and_kept_while_it_runs(tmp_path: Path) -> None:
    store, said = make_store(tmp_path / "c", size_limit=BIG // 2)
    assert build(store, b"one", tmp_path / "d").record.stored
    assert build(store, b"one", tmp_path / "d").how == "restored"
    assert any("more than its limit" in sentence for sentence in said)


def test_old_quarantine_goes_and_new_stays(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    for name, age in (("cas-old", gc.QUARANTINE + 10), ("cas-new", 10.0)):
        path = store.layout.quarantine / name
        path.write_bytes(b"damaged")
        os.utime(path, (time.time() - age,) * 2)
    clean(store, Wanted(unreachable=True))
    assert [path.name for path in store.layout.quarantine.iterdir()] == ["cas-new"]


def test_where_there_are_no_locks_young_contents_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine might be between storing a content and its record."""
    store, _ = make_store(tmp_path / "c")
    store.blobs.keep_bytes("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", b"hello")
    monkeypatch.setattr(gc, "acquire", lambda *args, **options: None)
    clean(store, Wanted(unreachable=True))
    assert len(stored_files(tmp_path / "c", "cas")) == 1
    os.utime(stored_files(tmp_path / "c", "cas")[0], (time.time() - 2 * gc.GRACE,) * 2)
    clean(store, Wanted(unreachable=True))
    assert stored_files(tmp_path / "c", "cas") == []


contents = st.integers(0, 4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(contents, contents, st.integers(0, 100)), min_size=1, max_size=8), st.integers(0, 400))
def test_keep_size_leaves_the_most_recently_used_that_fit(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[int, int, int]], keep: int
) -> None:
    """Random sharing of contents, against a slow model: dropping from the least recently used until the rest fits."""
    root = tmp_path_factory.mktemp("gc")
    store, _ = make_store(root / "c")
    keys: list[tuple[int, str]] = []
    for number, (one, two, age) in enumerate(actions):

        def run(work: Path, one: int = one, two: int = two) -> None:
            (work / "one").write_bytes(b"x" * (1000 * one + 1))
            (work / "two").write_bytes(b"x" * (1000 * two + 1))

        action = Action("s", number, {}, {}, ("one", "two"))
        obtain(store, action, root / "d", run)
        os.utime(store.layout.record(action.key()), (1e9 - age - number / 100,) * 2)
        keys.append((age * 100 + number, action.key()))
    store.close()
    order = [key for _, key in sorted(keys, reverse=True)]

    def size_of(rest: list[str]) -> int:
        records = [store.record(key) for key in rest]
        blobs = {blob for record in records if record is not None for blob in record.blobs()}
        return sum(blob.size for blob in blobs) + sum(store.layout.record(key).stat().st_size for key in rest)

    expected = list(order)
    while expected and size_of(expected) > keep * 100:
        expected.pop(0)
    clean(store, Wanted(keep_size=keep * 100))
    assert {path.name for path in stored_files(root / "c", "ac")} == set(expected)


def test_a_process_that_opens_many_stores_has_one_lease(tmp_path: Path) -> None:
    for number in range(20):
        store, _ = make_store(tmp_path / "c")
        build(store, b"source %d" % number, tmp_path / "d")
    assert len(stored_files(tmp_path / "c", "leases")) == 1
    store.close()
    assert stored_files(tmp_path / "c", "leases") == []


def test_leases_of_the_dead_do_not_pile_up(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    for number in range(100):
        (store.layout.leases / f"other-{number}").write_text("ab" * 32 + "\n")
    build(store, b"model", tmp_path / "d")
    assert len(stored_files(tmp_path / "c", "leases")) == 1
