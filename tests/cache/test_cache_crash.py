"""`kill -9` at any moment: the next run gives the right bytes, and nothing half-made is ever taken for whole."""

import errno
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from cache_ptrace import possible, run_failing, run_killed
from cache_support import build, is_right, make_store, outputs_for, stored_files, tree_of

from axforge.cache.errors import CacheError
from axforge.cache.gc import Wanted, clean
from axforge.cache.remote.connect import connect
from axforge.cache.store import Store
from axforge.cache.verify import verify

TREE = {"inputs": {"t": tree_of({"a": b"1", "b": b"2"})}}
traceable = pytest.mark.skipif(not possible(), reason="needs to trace a child process (x86-64 Linux)")


def _build(base: Path, source: bytes = b"model", **options: object) -> None:
    store = Store(base / "c", size_limit=10**9, warn=lambda sentence: None)
    build(store, source, base / "dest", label="m", scope="/ws", changes=TREE, **options)


def _next_run_is_right(base: Path, before: bytes | None = None) -> None:
    """What is in `dest` after the kill is old or new, file by file; then a new process builds, and all is right and sound."""
    allowed = [outputs_for(b"model")] + ([outputs_for(before)] if before else [])
    for path in (base / "dest").glob("[!.]*"):
        assert path.read_bytes() in [outputs[path.name] for outputs in allowed], f"{path} is neither old nor new"
    store, _ = make_store(base / "c", size_limit=10**9)
    assert not verify(store).damaged
    build(store, b"model", base / "dest", label="m", scope="/ws", changes=TREE)
    assert is_right(base / "dest", b"model")
    assert verify(store).sound
    store.close()
    clean(store, Wanted(unreachable=True))
    assert stored_files(base / "c", "tmp") == []
    assert build(store, b"model", base / "dest2", changes=TREE).how == "restored"


def _every_kill(tmp_path: Path, prepare: str, work: str) -> int:
    """Kill `work` before each of its writing calls in turn, each time in a copy of the cache that `prepare` made."""
    base = tmp_path / "base"
    base.mkdir()
    _STEPS[prepare](base)
    number = 0
    while True:
        number += 1
        trial = tmp_path / "trial"
        shutil.copytree(base, trial)
        seen, finished = run_killed(lambda trial=trial: _STEPS[work](trial), number)  # type: ignore[misc]
        _next_run_is_right(trial, b"old")
        shutil.rmtree(trial)
        if finished:
            return len(seen)


def _clean_all(base: Path) -> None:
    store, _ = make_store(base / "c")
    clean(store, Wanted(all=True))


def _fetch(base: Path) -> None:
    store = Store(base / "c", remote=connect(str(base / "share"), "ro"), warn=lambda sentence: None)
    build(store, b"model", base / "dest", changes=TREE)


def _shared(base: Path) -> None:
    store, _ = make_store(base / "ci", remote=connect(str(base / "share"), "rw"))
    build(store, b"model", base / "elsewhere", changes=TREE)


_STEPS = {
    "shared": _shared,
    "fetch": _fetch,
    "nothing": lambda base: None,
    "old": lambda base: _build(base, b"old"),
    "model": lambda base: _build(base),
    "restore": lambda base: _build(base),
    "forced": lambda base: _build(base, force=True),
    "clean": _clean_all,
}


@traceable
@pytest.mark.parametrize(
    ("prepare", "work", "at_least"),
    [
        ("nothing", "model", 60),
        ("old", "model", 40),
        ("model", "restore", 8),
        ("model", "forced", 20),
        ("model", "clean", 8),
        ("shared", "fetch", 20),
    ],
)
def test_killed_before_each_system_call_that_writes(tmp_path: Path, prepare: str, work: str, at_least: int) -> None:
    assert _every_kill(tmp_path, prepare, work) >= at_least


def _build_or_say_why(base: Path, error: int) -> None:
    """Right outputs; or CacheError, because of the destination; or what the stage got when it wrote."""
    try:
        _build(base)
    except CacheError as trouble:
        if "cannot be written there" not in str(trouble):
            raise
    except OSError as trouble:
        if trouble.errno != error:
            raise
    else:
        assert is_right(base / "dest", b"model")


@traceable
@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_each_system_call_that_needs_room_fails(tmp_path: Path, error: int, once: bool) -> None:
    """The n-th alone, or from the n-th on all, for every n: the result arrives whole, or a sentence says why it cannot."""
    number, finished = 0, False
    while not finished:
        number += 1
        trial = tmp_path / "trial"
        trial.mkdir()
        _, finished = run_failing(lambda trial=trial: _build_or_say_why(trial, error), number, error, once=once)  # type: ignore[misc]
        _next_run_is_right(trial)
        shutil.rmtree(trial)
    assert number > 20


def _builder(base: Path, seed: int) -> None:
    chance = random.Random(seed)
    store = Store(base / "c", durable=False, warn=lambda sentence: None)
    while True:
        source = b"source %d" % chance.randrange(30)
        build(store, source, base / f"dest-{source.decode()[7:]}", force=chance.random() < 0.2)


def test_many_writers_killed_at_random_moments(tmp_path: Path) -> None:
    """About three seconds: four writers at once, each killed after a random moment and replaced."""
    context = multiprocessing.get_context("fork")
    chance = random.Random(7)
    end, kills, seed = time.monotonic() + 3, 0, 0
    workers: list[multiprocessing.context.ForkProcess] = []
    while time.monotonic() < end:
        while len(workers) < 4:
            seed += 1
            workers.append(context.Process(target=_builder, args=(tmp_path, seed)))
            workers[-1].start()
        time.sleep(chance.uniform(0.005, 0.06))
        victim = workers.pop(chance.randrange(len(workers)))
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        victim.join(10)
        assert victim.exitcode == -signal.SIGKILL, "it must not have failed by itself"
        kills += 1
    for worker in workers:
        worker.kill()
        worker.join(10)
    assert kills > 20
    store, said = make_store(tmp_path / "c")
    found = verify(store)
    assert found.sound
    assert found.records > 3
    for number in range(30):
        source = b"source %d" % number
        build(store, source, tmp_path / f"dest-{number}")
        assert is_right(tmp_path / f"dest-{number}", source)
    assert said == []
    store.close()
    clean(store, Wanted(unreachable=True))
    assert stored_files(tmp_path / "c", "tmp") == []
