"""What a tracking algorithm is, and its tracks as columns of arrays."""

from abc import ABC, abstractmethod

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.tracking.kalman import Motion

#: The number of a box that belongs to no confirmed track.
UNTRACKED = -1


class TrackTable:
    """Tracks as columns: ids (UNTRACKED until confirmed), class_ids, born and seen (frames), hits (matches without a gap), and motion.

    Numbers are given when a track is confirmed, so that they count objects, beginning with 1.
    """

    def __init__(self) -> None:
        self.ids, self.class_ids, self.born, self.seen, self.hits = (np.zeros(0, np.int64) for _ in range(5))
        nothing = np.zeros((0, 4))
        self.motion = Motion(nothing, nothing, nothing)
        self._given = 0

    def __len__(self) -> int:
        return len(self.ids)

    def start(self, motion: Motion, class_ids: Array, frame: int) -> Array:
        """Add tracks that were first seen in `frame`; returns their rows."""
        first, count = len(self), len(class_ids)
        self.motion.extend(motion)
        for name, value in (("ids", UNTRACKED), ("born", frame), ("seen", frame), ("hits", 1)):
            setattr(self, name, np.concatenate([getattr(self, name), np.full(count, value, np.int64)]))
        self.class_ids = np.concatenate([self.class_ids, class_ids])
        return np.arange(first, first + count)

    def confirm(self, rows: Array) -> None:
        """Give numbers to those of the tracks `rows` that have none."""
        fresh = rows[self.ids[rows] == UNTRACKED]
        self.ids[fresh] = np.arange(self._given + 1, self._given + 1 + len(fresh))
        self._given += len(fresh)

    def keep(self, rows: Array) -> None:
        """Forget all tracks but `rows`."""
        for name in ("ids", "class_ids", "born", "seen", "hits"):
            setattr(self, name, getattr(self, name)[rows])
        self.motion = self.motion.take(rows)


class Tracker(ABC):
    """An algorithm with the tracks of one stream.

    threshold: score of a box that can start a track. max_age: frames that an object may be hidden. class_agnostic: an object may change
    its class.
    """

    def __init__(self, *, threshold: float, max_age: int, class_agnostic: bool) -> None:
        self._threshold, self._max_age, self._agnostic = threshold, max_age, class_agnostic
        self._tracks = TrackTable()
        self._frame = 0

    @abstractmethod
    def update(self, boxes: Array, scores: Array, class_ids: Array) -> Array:
        """The track of each box of the next frame, int64 [n]; UNTRACKED for a box that belongs to none, or to one not yet confirmed.

        boxes: [n, 4] as left, top, right, bottom in pixels; scores [n] in 0..1; class_ids [n].
        """


def same_class(tracks: Array, found: Array, *, agnostic: bool) -> Array:
    """Where the class ids of tracks [n] and boxes [m] allow a pair: bool [n, m]."""
    return np.ones((len(tracks), len(found)), bool) if agnostic else tracks[:, np.newaxis] == found[np.newaxis]
