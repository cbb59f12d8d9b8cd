"""How long each step of a stream takes, which of them limits its speed, and how long a frame is on its way."""

import time
from collections import Counter
from dataclasses import dataclass

import numpy as np

from axforge.axruntime.streaming.flow import STEPS, Flight

WRITE = "draw and write"
#: Frames whose delays are kept for the percentiles: the last ones, so that a camera may run for ever.
_KEPT = 10_000
#: Frames before the figures count, in which engines make their code and fill caches.
_WARM_UP = 1


@dataclass(frozen=True)
class TimingTable:
    """A title, the heads of the columns, rows of text, and a sentence below."""

    title: str
    head: list[str]
    rows: list[list[str]]
    sentence: str


class StreamTiming:
    """Sums what the frames of a stream took, without the first one, which warms up."""

    def __init__(self) -> None:
        self.count = 0
        self._seconds: Counter[str] = Counter()
        self._delays = np.zeros(_KEPT)
        self._gaps = np.zeros(_KEPT)
        self._first = self._last = 0.0

    def add(self, flight: Flight, write_seconds: float) -> None:
        """Count a frame whose result has just been written, which took `write_seconds`."""
        now = time.perf_counter()
        self.count += 1
        if self.count > _WARM_UP:
            at = (self.count - _WARM_UP - 1) % _KEPT
            self._delays[at], self._gaps[at] = now - flight.began, now - self._last
            self._seconds.update({**flight.seconds, WRITE: write_seconds})
        else:
            self._first = now
        self._last = now

    def steps(self) -> TimingTable:
        """Milliseconds a frame and share of each step, and the step that limits the speed."""
        title, head = "Time per step", ["step", "ms a frame", "share"]
        frames = self._measured()
        if not frames:
            return TimingTable(title, head, [], "One frame says nothing about speed: it warms up.")
        total = sum(self._seconds.values())
        names = [name for name in (*STEPS, WRITE) if name in self._seconds]
        rows = [[name, f"{1000 * self._seconds[name] / frames:.2f}", f"{self._seconds[name] / total:.0%}"] for name in names]
        slowest = max(names, key=lambda name: self._seconds[name])
        speed, alone = frames / max(self._last - self._first, 1e-9), frames / max(self._seconds[slowest], 1e-9)
        sentence = f"The steps overlap; the bottleneck is {slowest}: {alone:.1f} frames/s by itself, {speed:.1f} frames/s in the stream."
        return TimingTable(title, head, rows, sentence)

    def delays(self) -> TimingTable:
        """Percentiles of the time from a decoded frame to its written result, and of the time between two results, in milliseconds."""
        title, head = "Stream timing", ["ms", "p50", "p90", "p99", "longest"]
        kept = min(self._measured(), _KEPT)
        if not kept:
            return TimingTable(title, head, [], "One frame says nothing about speed: it warms up.")
        rows = [_percentiles("latency", self._delays[:kept]), _percentiles("between frames", self._gaps[:kept])]
        gaps = 1000 * self._gaps[:kept]
        return TimingTable(title, head, rows, f"Jitter (standard deviation of the time between frames): {gaps.std():.2f} ms.")

    def _measured(self) -> int:
        return max(self.count - _WARM_UP, 0)


def _percentiles(name: str, seconds: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> list[str]:
    return [name, *(f"{1000 * value:.2f}" for value in np.percentile(seconds, [50, 90, 99, 100]))]
