"""The whole protocol of one action: restore it, or run it once among all processes and keep what it gave."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from axforge.cache import history
from axforge.cache.disk import FULL, host
from axforge.cache.errors import CacheError, Damaged
from axforge.cache.gc import keep_limit
from axforge.cache.key import Action, Scalar
from axforge.cache.record import Record
from axforge.cache.store import Store, publish

#: Writes exactly the outputs of the action into the folder; returns its log, or None.
Run = Callable[[Path], str | None]
Recheck = Callable[[], Action] | None


@dataclass(frozen=True)
class Obtained:
    """how: "restored" or "ran". seconds: of this call. record: what is in the destination now."""

    how: str
    record: Record
    seconds: float


def obtain(
    store: Store,
    action: Action,
    dest: Path,
    run: Run,
    *,
    label: str = "",
    scope: str = "",
    force: bool = False,
    recheck: Recheck = None,
) -> Obtained:
    """Bring the outputs of an action to `dest`.

    label: what to call it in reports (a model). scope: the workspace, for `explain`. force: run even if there is a record.
    recheck: makes the action again from its inputs as they are after the run; if it differs, nothing is kept and CacheError is
    raised. Whatever `run` raises passes through, and then `dest` is as it was.
    """
    start = time.monotonic()
    result = None if force else _restored(store, action, dest, start)
    if result is None:
        action.confirm()  # what is stored and shared under this key must be named by SHA-256 and not by xxh3
        with store.single_flight(action.key(), f"{action.stage} {label}".strip()):
            result = None if force else _restored(store, action, dest, start)
            if result is None:
                result = _ran(store, action, dest, run, label, start, recheck)
    if scope:
        history.remember(store, scope, label, result.record)
    keep_limit(store)
    return result


def _restored(store: Store, action: Action, dest: Path, start: float) -> Obtained | None:
    record = store.lookup(action)
    if record is None:
        return None
    try:
        with _writing(dest):
            store.restore(record, dest)
    except Damaged as error:
        store.warn(f"{error.what} {action.stage} runs again.")
        return None
    return Obtained("restored", record, time.monotonic() - start)


def _ran(store: Store, action: Action, dest: Path, run: Run, label: str, start: float, recheck: Recheck) -> Obtained:
    try:
        record = _run_in(store, action, dest, run, label, recheck, beside=None)
    except OSError as error:
        if error.errno not in FULL or not store.layout.writable:
            raise
        store.warn(f"There is no room in {store.layout.root} ({error.strerror}); {action.stage} runs again where its result goes.")
        record = _run_in(store, action, dest, run, label, recheck, beside=dest.parent)
    return Obtained("ran", record, time.monotonic() - start)


def _run_in(store: Store, action: Action, dest: Path, run: Run, label: str, recheck: Recheck, beside: Path | None) -> Record:
    with store.work(beside=beside) as work:
        began, clock = time.time(), time.monotonic()
        log = run(work)
        seconds = time.monotonic() - clock
        _complete(action, work)
        if recheck is not None and recheck().key() != action.key():
            raise CacheError(
                f"An input of {action.stage} changed while it ran; its result was thrown away.",
                where=label,
                fix="Start again when nobody writes to the inputs.",
            )
        provenance: dict[str, Scalar] = {"label": label, "started": round(began, 3), "seconds": round(seconds, 3), "host": host()}
        record = store.put(action, work, provenance, log=log, private=True)
        with _writing(dest):
            _deliver(store, record, work, dest)
    return record


def _deliver(store: Store, record: Record, work: Path, dest: Path) -> None:
    if record.stored:
        try:
            store.restore(record, dest)
            return
        except Damaged as error:  # what the disk gave back is not what was written: the produced files are still there
            store.warn(f"{error.what} The result is used from where it was made.")
    publish(work, record, dest)


@contextmanager
def _writing(dest: Path) -> Iterator[None]:
    """Troubles of the destination are the user's, not the cache's."""
    try:
        yield
    except OSError as error:
        fix = "Make room on its disk." if error.errno in FULL else "Check its permissions, and that nothing else is in its place."
        raise CacheError(f"A result cannot be written there: {error.strerror or error}.", where=str(dest), fix=fix) from error


def _complete(action: Action, work: Path) -> None:
    found = {path.name for path in work.iterdir()}
    missing, extra = sorted(set(action.outputs) - found), sorted(found - set(action.outputs))
    if missing or extra:
        parts = [f"did not write {', '.join(missing)}"] * bool(missing) + [f"wrote {', '.join(extra)}, which it does not declare"] * bool(
            extra
        )
        raise CacheError(f"The stage {action.stage} {' and '.join(parts)}.", fix="A stage writes exactly the outputs it declares.")
