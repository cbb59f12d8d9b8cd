"""Ctrl-C and SIGTERM while results are written: the run ends between two results, and what was written is finished."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

#: The signals that ask a run to end, where the system has them, and how a person calls them.
_SIGNALS = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "SIGHUP": "SIGHUP"}


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end. name: how a person calls it. status: what the program exits with, 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        self.name = _SIGNALS.get(signal.Signals(number).name, signal.Signals(number).name)
        self.status = 128 + number
        super().__init__(self.name)


class StopGuard:
    """A context manager in which Ctrl-C, SIGTERM and SIGHUP raise `Stopped`, except inside `held`, which they end first.

    While the run ends, a second signal is ignored, so that an impatient Ctrl-C destroys nothing; the third one is obeyed at once.
    Outside the main thread, where Python takes no signals, this does nothing.
    """

    def __init__(self) -> None:
        self._before: dict[int, signal.Handlers | int | object] = {}
        self._seen = 0
        self._held = 0
        self._pending = 0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in _SIGNALS:
                number = getattr(signal, name, None)
                # a signal that the parent process ignores (nohup) stays ignored
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._asked)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if callable(handler) or isinstance(handler, int) else signal.SIG_DFL)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What must not be cut in the middle: a signal that comes meanwhile raises `Stopped` at the end of the outermost one."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._pending and not self._held:
            number, self._pending = self._pending, 0
            raise Stopped(number)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self._seen += 1
        if self._seen == 1 and self._held:
            self._pending = number
        elif self._seen != 2:
            raise Stopped(number)
