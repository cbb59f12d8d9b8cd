"""Frames of all requests take turns in the engine: one thread takes what waits, a batch at a time, first come first served."""

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
    """Runs the network on one frame, as `Model.run` does."""

    def __call__(self, feeds: Mapping[str, Array], *, raw: bool = False) -> Outputs: ...


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
    """Takes frames from any thread. Frames of several requests are taken out together, up to a batch, so that the engine, which uses all
    CPUs for one frame, never waits for a request to be read or answered while another frame is there.
    """

    def __init__(self, run: FrameRunner, limits: ServingLimits, metrics: ServingMetrics) -> None:
        self._run, self._limits, self._metrics = run, limits, metrics
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="axforge-batches", daemon=True)
        self._thread.start()

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
            self._changed.notify()

    def close(self) -> None:
        """Run what waits, then end. May be called twice."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._batch():
            self._metrics.batch.observe(len(batch))
            for frame in batch:
                self._one(frame)

    def _batch(self) -> list[Waiting]:
        """Waits for frames, and a little longer for a full batch; [] when all is done and no more come."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._ended)
            if self._limits.batch_seconds:
                self._changed.wait_for(lambda: len(self._waiting) >= self._limits.batch or self._ended, self._limits.batch_seconds)
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._limits.batch))]
            self._metrics.waiting.set(len(self._waiting))
            return taken

    def _one(self, frame: Waiting) -> None:
        if not frame.done.set_running_or_notify_cancel():
            return  # its client has gone
        start = time.monotonic()
        frame.queued = start - frame.since
        if start > frame.deadline:
            frame.done.set_exception(Refused(503, "The frame waited for the engine until its time was over. Try again later."))
            return
        try:
            outputs = self._run(frame.feeds, raw=frame.raw)
        except BaseException as e:  # whoever waits for the frame gets it
            frame.done.set_exception(e)
            return
        frame.inference = time.monotonic() - start
        frame.done.set_result(outputs)
