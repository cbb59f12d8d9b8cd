"""SORT (Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016)."""

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import corners, overlaps
from axforge.axruntime.pipeline.tracking.association import best_pairs
from axforge.axruntime.pipeline.tracking.kalman import Motion
from axforge.axruntime.pipeline.tracking.tracks import UNTRACKED, Tracker, same_class

#: Smallest overlap of a track's predicted box with a box that may be its next.
OVERLAP = 0.3
#: Matches in a row that confirm a track.
_CONFIRMED = 3
#: Variances of centre x and y, area, and width / height, in pixels; the ratio has no velocity.
MEASURED = np.array([1, 1, 10, 10.0])
POSITION_NOISE, VELOCITY_NOISE = np.ones(4), np.array([1e-2, 1e-2, 1e-4, 0])
_FIRST_POSITION, _FIRST_VELOCITY = np.full(4, 10.0), np.array([1e4, 1e4, 1e4, 0])


class Sort(Tracker):
    """Boxes are paired with the tracks' predicted boxes by their overlap; a track is confirmed by three matches in a row."""

    def update(self, boxes: Array, scores: Array, class_ids: Array) -> Array:
        """As `Tracker.update`."""
        self._frame += 1
        tracks = self._tracks
        self._predict()
        index = np.flatnonzero(scores >= self._threshold)
        rows, at = self._paired(boxes[index], class_ids[index])
        track_of = np.full(len(boxes), UNTRACKED)
        track_of[index[at]] = rows
        tracks.hits[rows] = np.where(tracks.seen[rows] == self._frame - 1, tracks.hits[rows] + 1, 1)
        self._matched(rows, boxes[index[at]])
        tracks.seen[rows], tracks.class_ids[rows] = self._frame, class_ids[index[at]]
        fresh = np.delete(index, at)
        track_of[fresh] = self._start(boxes[fresh], class_ids[fresh])
        here = np.flatnonzero(tracks.seen == self._frame)
        tracks.confirm(here[(tracks.hits[here] >= _CONFIRMED) | (self._frame <= _CONFIRMED)])
        ids = np.where(track_of >= 0, np.append(tracks.ids, UNTRACKED)[track_of], UNTRACKED)
        self._keep(np.flatnonzero(self._frame - tracks.seen <= self._max_age))
        return ids

    def _predict(self) -> None:
        motion = self._tracks.motion
        shrunk_away = motion.position[:, 2] + motion.velocity[:, 2] <= 0
        motion.velocity[shrunk_away, 2] = 0  # an area stays positive
        motion.predict(POSITION_NOISE, VELOCITY_NOISE)

    def _paired(self, boxes: Array, class_ids: Array) -> tuple[Array, Array]:
        """Tracks and the boxes that belong to them."""
        similar = overlaps(boxes_of(self._tracks.motion.position), boxes)
        allowed = same_class(self._tracks.class_ids, class_ids, agnostic=self._agnostic)
        return best_pairs(np.where(allowed & (similar >= OVERLAP), similar, 0))

    def _matched(self, rows: Array, boxes: Array) -> None:
        """Correct the motion of the tracks `rows` by their boxes."""
        self._tracks.motion.update(rows, measured(boxes), MEASURED)

    def _start(self, boxes: Array, class_ids: Array) -> Array:
        """Begin a track for each box; returns their rows."""
        return self._tracks.start(Motion(measured(boxes), _FIRST_POSITION, _FIRST_VELOCITY), class_ids, self._frame)

    def _keep(self, rows: Array) -> None:
        self._tracks.keep(rows)


def measured(boxes: Array) -> Array:
    """Centre, area, and width / height of boxes [n, 4]."""
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, size.prod(axis=1, keepdims=True), size[:, :1] / size[:, 1:]], axis=1)


def boxes_of(position: Array) -> Array:
    """The boxes of which `measured` makes these positions."""
    area, ratio = np.maximum(position[:, 2:3], 1e-12), np.maximum(position[:, 3:], 1e-6)
    width = np.sqrt(area * ratio)
    size = np.concatenate([width, area / width], axis=1)
    return corners(position[:, :2], size)
