"""Frames of all requests take turns in the engine, first come first served: one alone on all CPUs, several side by side on one CPU each."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from axforge.axruntime.lazy import Array
from axforge.axruntime.serving.limits import Refused, ServingLimits
from axforge.axruntime.serving.metrics import ServingMetrics

#: Outputs of the network by name.
Outputs = dict[str, Array]


class FrameRunner(Protocol):
    """Runs the network on one frame, as `Model.run` does. alone: on the caller's thread only."""

    def __call__(self, feeds: Mapping[str, Array], *, raw: bool = False, alone: bool = False) -> Outputs: ...


@dataclass
class Waiting:
    """A frame that waits for the engine. raw: its outputs are wanted as codes. deadline: when nobody wants them any more.

    queued, inference: seconds that it waited, and was in the engine.
    """

    feeds: Mapping[str, Array]
    raw: bool
    deadline: float
    since: float = field(default_factory=time.monotonic)
    done: "Future[Outputs]" = field(default_factory=Future)
    queued: float = 0.0
    inference: float = 0.0


class Batcher:
    """Takes frames from any thread, and runs up to `at_once` of them at the same time.

    A frame that comes while nothing else is there gets all CPUs. Frames that wait together are run side by side, a thread for each: threads
    of one frame wait for each other at every step, and those of several frames never do. So the engine does more frames in the same time
    than it could one after another, and requests are read and answered between them.
    """

    def __init__(self, run: FrameRunner, limits: ServingLimits, metrics: ServingMetrics, at_once: int = 1) -> None:
        self._run, self._limits, self._metrics = run, limits, metrics
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._running = 0
        self._on_all = False  # a frame that began alone has all CPUs
        self._workers = [threading.Thread(target=self._work, name=f"axforge-frames-{i}", daemon=True) for i in range(at_once)]
        for worker in self._workers:
            worker.start()

    def add(self, frames: list[Waiting]) -> None:
        """Have the frames wait, all or none. Raises Refused when too many wait already."""
        with self._changed:
            if self._ended:
                raise Refused(503, "The server is stopping.")
            if len(self._waiting) + len(frames) > self._limits.waiting:
                what = f"{len(self._waiting)} frames wait already, and at most {self._limits.waiting} may."
                raise Refused(429, f"{what} Try again later, or send fewer frames at once.")
            self._waiting.extend(frames)
            self._metrics.waiting.set(len(self._waiting))
            self._changed.notify(len(frames))

    def close(self) -> None:
        """Run what waits, then end. May be called twice."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            try:
                self._one(*taken)
            finally:
                with self._changed:
                    self._running -= 1
                    self._on_all = False
                    self._changed.notify_all()

    def _next(self) -> tuple[Waiting, bool] | None:
        """The frame whose turn it is, as soon as it may begin, and whether it gets one thread; None when all is done and no more come."""
        with self._changed:
            self._changed.wait_for(lambda: not self._on_all and (bool(self._waiting) or self._ended))
            if not self._waiting:
                return None
            frame = self._waiting.popleft()
            self._on_all = not self._running and not self._waiting
            self._running += 1
            self._metrics.waiting.set(len(self._waiting))
            self._metrics.at_once.observe(self._running)
            return frame, not self._on_all

    def _one(self, frame: Waiting, alone: bool) -> None:
        if not frame.done.set_running_or_notify_cancel():
            return  # its client has gone
        start = time.monotonic()
        frame.queued = start - frame.since
        if start > frame.deadline:
            frame.done.set_exception(Refused(503, "The frame waited for the engine until its time was over. Try again later."))
            return
        try:
            outputs = self._run(frame.feeds, raw=frame.raw, alone=alone)
        except BaseException as e:  # whoever waits for the frame gets it
            frame.done.set_exception(e)
            return
        frame.inference = time.monotonic() - start
        frame.done.set_result(outputs)
