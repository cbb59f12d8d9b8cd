"""From inside a stage to the bar on the screen, also across the processes of `doit -n K`.

A stage calls `report`. In the process that draws, that is a function call. A worker process writes to a queue that was made before
it was forked; it writes only if somebody draws, for a pipe that nobody empties blocks its writer when it is full.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: draw(model, stage, done, total, note); without a model, note is a sentence for the user.
Draw = Callable[[str, str, int, int, str], None]

_INTERVAL = 0.05  # seconds between two reports of one stage


class _Channel:
    """What one process knows about who draws."""

    draw: Draw | None = None
    pid = 0
    queue: Any = None


_CHANNEL = _Channel()


def open_channel(draw: Draw) -> Any:
    """Called by who draws, before any fork. Returns the queue of messages from other processes; None ends it."""
    _CHANNEL.draw, _CHANNEL.pid = draw, os.getpid()
    _CHANNEL.queue = multiprocessing.get_context("fork").SimpleQueue()
    return _CHANNEL.queue


def close_channel() -> None:
    """Nobody draws any more."""
    _CHANNEL.draw, _CHANNEL.queue = None, None


def in_worker() -> bool:
    """Whether this is a worker process of `doit -n K`."""
    return multiprocessing.parent_process() is not None


def reporter_of(model: str, stage: str) -> Callable[[int, int, str], None]:
    """The `progress` function of one stage of one model."""
    last = [0.0]

    def progress(done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if _CHANNEL.draw is None or (now - last[0] < _INTERVAL and done != total):
            return
        last[0] = now
        relay(model, stage, done, total, note)

    return progress


def relay(model: str, stage: str, done: int, total: int, note: str) -> None:
    """A report that came from another machine."""
    if _CHANNEL.draw is not None and os.getpid() == _CHANNEL.pid:
        _CHANNEL.draw(model, stage, done, total, note)
    elif _CHANNEL.draw is not None:
        _CHANNEL.queue.put((model, stage, done, total, note))


@contextmanager
def drawn_by(draw: Draw) -> Iterator[None]:
    """What is reported and said inside goes to `draw`: for whoever works for somebody on another machine."""
    before = (_CHANNEL.draw, _CHANNEL.pid)
    _CHANNEL.draw, _CHANNEL.pid = draw, os.getpid()
    try:
        yield
    finally:
        _CHANNEL.draw, _CHANNEL.pid = before


def say(sentence: str) -> None:
    """Tell the user something now, whatever is being drawn, and although doit keeps what actions print."""
    if _CHANNEL.draw is None:
        print(sentence, file=sys.__stderr__, flush=True)
    else:
        relay("", "", 0, 0, sentence)
