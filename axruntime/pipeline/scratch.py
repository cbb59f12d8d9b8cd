"""Arrays for frames that are used again, because fresh memory of that size costs more than resizing the frame. Light to import."""

import sys
import threading
from functools import cached_property

from axforge.axruntime.lazy import Array, np

#: Arrays that are kept: what a few frames on their way through a pipeline need.
_KEPT = 16


def _references(arrays: list[Array], at: int) -> int:
    """The references to an array of a list, with those that this function adds, whose number depends on the version of Python."""
    array = arrays[at]
    return sys.getrefcount(array)


class FrameMemory:
    """Gives uint8 arrays with any content. One comes again when nobody holds it, or a view of it, any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrays: list[Array] = []

    @cached_property
    def _unused(self) -> int:
        """The references that are counted for an array which only the list holds (measured once, when NumPy is in use anyway)."""
        return _references([np.empty(0, np.uint8)], 0)

    def take(self, shape: tuple[int, ...]) -> Array:
        """An array of this shape that nobody else holds."""
        with self._lock:
            for at in range(len(self._arrays)):
                if self._arrays[at].shape == shape and _references(self._arrays, at) == self._unused:
                    self._arrays.append(self._arrays.pop(at))  # the one that waits longest is forgotten first
                    return self._arrays[-1]
            fresh: Array = np.empty(shape, np.uint8)
            self._arrays = [*self._arrays[-_KEPT + 1 :], fresh]
            return fresh


FRAMES = FrameMemory()
