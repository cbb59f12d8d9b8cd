"""Arrays for frames that are used again, because fresh memory of that size costs more than resizing the frame. Light to import."""

import sys
import threading

from axforge.axruntime.lazy import Array, np

#: Arrays that are kept: what a few frames on their way through a pipeline need.
_KEPT = 16
#: References to an array that nobody uses: the list, the loop's variable and the argument of `getrefcount`.
_UNUSED = 3


class FrameMemory:
    """Gives uint8 arrays with any content. One comes again when nobody holds it, or a view of it, any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrays: list[Array] = []

    def take(self, shape: tuple[int, ...]) -> Array:
        """An array of this shape that nobody else holds."""
        with self._lock:
            for at in range(len(self._arrays)):
                array = self._arrays[at]
                if array.shape == shape and sys.getrefcount(array) == _UNUSED:
                    self._arrays.append(self._arrays.pop(at))  # the one that waits longest is forgotten first
                    return array
            fresh: Array = np.empty(shape, np.uint8)
            self._arrays = [*self._arrays[-_KEPT + 1 :], fresh]
            return fresh


FRAMES = FrameMemory()
