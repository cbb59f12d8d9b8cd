"""Work that goes on in a thread of its own while its results are used."""

import threading
from collections.abc import Generator, Iterable, Iterator
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")
#: how often a thread that waits looks whether it is still wanted, in seconds
_LOOK = 0.1


def ahead(items: Iterable[T], most: int = 2) -> Iterator[T]:
    """`items` in their order, of which up to `most` are made in advance by another thread.

    An exception of `items` comes where its item would have come. A caller that stops early, or whose own work fails, waits for the item
    that is being made and leaves no thread behind. `items` must not need the caller's thread.
    """
    queue: Queue[tuple[T | None, BaseException | None, bool]] = Queue(most)
    unwanted = threading.Event()
    thread = threading.Thread(target=_make, args=(items, queue, unwanted), daemon=True)
    thread.start()
    try:
        while True:
            item, error, more = _next(queue, thread)
            if error is not None:
                raise error
            if not more:
                return
            yield item  # type: ignore[misc]  # None only where T has it
    finally:
        unwanted.set()
        thread.join()


def _make(items: Iterable[T], queue: "Queue[tuple[T | None, BaseException | None, bool]]", unwanted: threading.Event) -> None:
    source = iter(items)
    end: BaseException | None = None
    try:
        for item in source:
            if not _put(queue, (item, None, True), unwanted):
                break
        if isinstance(source, Generator):
            source.close()  # now, with the thread that it may have
    except BaseException as error:  # whatever it is, it is the caller's
        end = error
    _put(queue, (None, end, False), unwanted)


def _put(queue: "Queue[T]", entry: T, unwanted: threading.Event) -> bool:
    """Whether the entry was taken, or is still wanted."""
    while not unwanted.is_set():
        try:
            queue.put(entry, timeout=_LOOK)
        except Full:
            continue
        return True
    return False


def _next(queue: "Queue[T]", thread: threading.Thread) -> T:
    """The next entry. A wait in short pieces, so that a signal is seen by the caller's thread."""
    while True:
        try:
            return queue.get(timeout=_LOOK)
        except Empty:
            assert thread.is_alive() or not queue.empty(), "the thread puts an entry before it ends"
