"""Reports from inside a stage on their way to the bar on the screen, also across the processes of `doit -n K`."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

#: draw(model, stage, done, total, note); without a model, note is a sentence for the user.
Draw = Callable[[str, str, int, int, str], None]
#: The arguments of a Draw, as they travel from a worker process.
Message = tuple[str, str, int, int, str]

_INTERVAL = 0.05  # seconds between two reports of one stage


class Channel:
    """The way from running stages to whoever draws them.

    In the process that draws, a report is a function call. A worker process, which is forked later, writes to a queue; it writes only
    if somebody draws, because a pipe that nobody empties blocks its writer when it is full.
    """

    def __init__(self, draw: Draw | None = None) -> None:
        self._draw, self._pid = draw, os.getpid()
        self._queue: SimpleQueue[Message | None] | None = None

    def open(self, draw: Draw) -> "SimpleQueue[Message | None]":
        """Let `draw` take all reports. Called before any fork; returns the queue of messages from other processes, which None ends."""
        self._draw, self._pid = draw, os.getpid()
        self._queue = multiprocessing.get_context("fork").SimpleQueue()
        return self._queue

    def close(self) -> None:
        """Let nobody take reports any more."""
        self._draw, self._queue = None, None

    def reporter(self, model: str, stage: str) -> Callable[[int, int, str], None]:
        """The `progress` function of one stage of one model."""
        last = 0.0

        def progress(done: int, total: int, note: str) -> None:
            nonlocal last
            now = time.monotonic()
            if self._draw is None or (now - last < _INTERVAL and done != total):
                return
            last = now
            self.relay(model, stage, done, total, note)

        return progress

    def relay(self, model: str, stage: str, done: int, total: int, note: str) -> None:
        """Pass on one report."""
        if self._draw is not None and os.getpid() == self._pid:
            self._draw(model, stage, done, total, note)
        elif self._queue is not None:
            self._queue.put((model, stage, done, total, note))

    def say(self, sentence: str) -> None:
        """Show the user a sentence now, whatever is being drawn, and although doit keeps what actions print."""
        if self._draw is None:
            print(sentence, file=sys.__stderr__, flush=True)
        else:
            self.relay("", "", 0, 0, sentence)


def in_worker() -> bool:
    """Whether this is a worker process of `doit -n K`."""
    return multiprocessing.parent_process() is not None
