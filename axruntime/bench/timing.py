"""Timing of a function that runs one frame."""

import time
from collections.abc import Callable, Sequence
from math import floor
from statistics import median

from axforge.axruntime.bench.document import LatencyFigures, WarmUp

#: Frames are compared in groups of this many: it is stable when the median of a group is within the tolerance of that of the one before.
_GROUP = 5
_TOLERANCE = 0.03
#: A warm-up has at least so many frames, or takes so long.
_LEAST_FRAMES, _LEAST_SECONDS = 10, 0.25
#: A warm-up that has taken so long ends, stable or not.
_MOST_SECONDS = 5.0
Clock = Callable[[], int]


def warm_up(frame: Callable[[], object], clock: Clock = time.perf_counter_ns) -> WarmUp:
    """Run frames until they no longer get faster. clock: nanoseconds."""
    start, times = clock(), list[int]()
    while True:
        before = clock()
        frame()
        now = clock()
        times.append(now - before)
        seconds = (now - start) / 1e9
        stable = len(times) >= max(_LEAST_FRAMES, 2 * _GROUP) and _steady(times)
        if seconds >= _MOST_SECONDS or (stable and seconds >= _LEAST_SECONDS):
            return WarmUp(frames=len(times), seconds=seconds, stable=stable)


def _steady(times: Sequence[int]) -> bool:
    last, before = median(times[-_GROUP:]), median(times[-2 * _GROUP : -_GROUP])
    return last >= before * (1 - _TOLERANCE)


def run_for(frame: Callable[[], object], seconds: float, clock: Clock = time.perf_counter_ns) -> list[int]:
    """Nanoseconds of each frame of a run that takes `seconds`, and of one frame at least."""
    end, times = clock() + round(seconds * 1e9), list[int]()
    while True:
        before = clock()
        frame()
        now = clock()
        times.append(now - before)
        if now >= end:
            return times


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of the sorted values lie, interpolated linearly between neighbours."""
    position = share * (len(ordered) - 1)
    low = floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def figures(nanoseconds: Sequence[int]) -> LatencyFigures:
    """The figures of the frames that took so long, at least one."""
    times = sorted(t / 1e6 for t in nanoseconds)
    p50, p90, p99 = (percentile(times, share) for share in (0.5, 0.9, 0.99))
    return LatencyFigures(min_ms=times[0], mean_ms=sum(times) / len(times), p50_ms=p50, p90_ms=p90, p99_ms=p99, max_ms=times[-1])
