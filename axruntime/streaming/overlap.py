"""Steps that work at the same time, each in a thread of its own, on items that keep their order.

Between two steps is a queue with little room. A step that is faster than the next one waits for it (back-pressure), so memory does not grow
with the number of items, and the whole is as fast as its slowest step as long as there are CPUs for the others.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
#: Items that wait between two steps.
ROOM = 2
#: Seconds that ending waits for a step which is in the middle of an item. A camera that stalls may hold its thread for longer.
_PATIENCE = 10.0


@dataclass(frozen=True)
class _End:
    """Comes after the last item. error: what a step or the source raised instead of going on."""

    error: BaseException | None = None


class _Channel(Generic[T]):
    """A queue with little room between two threads. Closing it wakes both and drops what is in it."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._items: deque[T | _End] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: T | _End) -> bool:
        """Waits until there is room. False when nobody takes items any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._room)
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()
            return not self._closed

    def take(self) -> T | _End:
        """Waits for an item; the end when the channel is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items))
            if self._closed:
                return _End()
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


class Overlap(Generic[T]):
    """A context manager to iterate over once: gives the `items`, in order, after each of the `steps` has worked on them.

    items: made in a thread of its own, and closed there. steps: functions that change an item; each works in one thread, on one item at a
    time, in order. room: items that wait before each step.

    What the source or a step raises is raised here, after the items before it have come out. Leaving the context ends all threads, after
    the item that each is working on.
    """

    def __init__(self, items: Generator[T, None, None], steps: Sequence[Callable[[T], None]], room: int = ROOM) -> None:
        self._channels: list[_Channel[T]] = [_Channel(room) for _ in range(len(steps) + 1)]
        work: list[Callable[[], None]] = [lambda: self._begin(items)]
        work += [lambda i=i, step=step: self._work(i, step) for i, step in enumerate(steps)]  # type: ignore[misc]
        # daemons, because a thread that waits for a camera must not keep the program alive
        self._threads = [threading.Thread(target=target, name=f"axforge-stream-{i}", daemon=True) for i, target in enumerate(work)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __iter__(self) -> Iterator[T]:
        while not isinstance(got := self._channels[-1].take(), _End):
            yield got
        if got.error is not None:
            raise got.error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for channel in self._channels:
            channel.close()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _begin(self, items: Generator[T, None, None]) -> None:
        end = _End()
        with contextlib.closing(items):
            try:
                for item in items:
                    if not self._channels[0].put(item):
                        return
            except BaseException as e:  # raised again where the items come out
                end = _End(e)
        self._channels[0].put(end)

    def _work(self, index: int, step: Callable[[T], None]) -> None:
        source, target = self._channels[index], self._channels[index + 1]
        while not isinstance(got := source.take(), _End):
            try:
                step(got)
            except BaseException as e:  # raised again where the items come out
                got = _End(e)
                break
            if not target.put(got):
                break
        source.close()  # the steps before it have nothing to do any more
        if isinstance(got, _End):
            target.put(got)
