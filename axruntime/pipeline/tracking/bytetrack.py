"""ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022)."""

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import corners, overlaps
from axforge.axruntime.pipeline.tracking.association import best_pairs
from axforge.axruntime.pipeline.tracking.kalman import Motion
from axforge.axruntime.pipeline.tracking.tracks import UNTRACKED, Tracker, same_class

#: Largest 1 - IoU * score, of the first pairing and of tracks that were seen once; largest 1 - IoU of likely tracks with unlikely boxes.
_FIRST, _NEW, _SECOND = 0.8, 0.7, 0.5
#: Boxes below this score are not looked at.
_LOWEST = 0.1
#: So much above the threshold must a box be to start a track.
_START = 0.1
#: Two tracks that overlap more than this are one.
_SAME = 0.85
#: Standard deviations of position and velocity, in heights of the box, as in DeepSORT's filter.
_POSITION, _VELOCITY = 1 / 20, 1 / 160


class ByteTrack(Tracker):
    """Likely boxes are paired with tracks first; the unlikely rest (an object half hidden) then only with tracks that are left."""

    def update(self, boxes: Array, scores: Array, class_ids: Array) -> Array:
        """As `Tracker.update`."""
        self._frame += 1
        tracks = self._tracks
        self._predict()
        track_of = np.full(len(boxes), UNTRACKED)
        likely = np.flatnonzero(scores >= self._threshold)
        unlikely = np.flatnonzero((scores >= _LOWEST) & (scores < self._threshold))
        known = np.flatnonzero(tracks.ids != UNTRACKED)
        found = (boxes, scores, class_ids)
        likely, known = self._pair(known, likely, found, _FIRST, track_of, fused=True)
        self._pair(known, unlikely, found, _SECOND, track_of, fused=False)
        likely, _ = self._pair(np.flatnonzero(tracks.ids == UNTRACKED), likely, found, _NEW, track_of, fused=True)
        paired = np.unique(track_of[track_of >= 0])
        tracks.confirm(paired)
        fresh = likely[scores[likely] >= min(self._threshold + _START, 1.0)]
        rows = tracks.start(_started(_measured(boxes[fresh])), class_ids[fresh], self._frame)
        track_of[fresh] = rows
        if self._frame == 1:
            tracks.confirm(rows)
        ids = np.where(track_of >= 0, np.append(tracks.ids, UNTRACKED)[track_of], UNTRACKED)
        self._forget()
        return ids

    def _predict(self) -> None:
        motion = self._tracks.motion
        motion.velocity[self._tracks.seen < self._frame - 1, 3] = 0  # a lost object keeps its height
        height = motion.position[:, 3:]
        motion.predict(_spread(height, _POSITION, 1e-2) ** 2, _spread(height, _VELOCITY, 1e-5) ** 2)

    def _pair(
        self, rows: Array, index: Array, found: tuple[Array, Array, Array], limit: float, track_of: Array, *, fused: bool
    ) -> tuple[Array, Array]:
        """Pair the tracks `rows` with the boxes `index`; what is left of the boxes and of the tracks."""
        boxes, scores, class_ids = found
        tracks = self._tracks
        similar = overlaps(_corners(tracks.motion.position[rows]), boxes[index]) * (scores[index] if fused else 1)
        allowed = same_class(tracks.class_ids[rows], class_ids[index], agnostic=self._agnostic)
        pairs = best_pairs(np.where(allowed, similar - (1 - limit), 0))
        chosen, at = rows[pairs[0]], index[pairs[1]]
        measured = _measured(boxes[at])
        tracks.motion.update(chosen, measured, _spread(tracks.motion.position[chosen][:, 3:], _POSITION, 1e-1) ** 2)
        tracks.seen[chosen], tracks.class_ids[chosen] = self._frame, class_ids[at]
        track_of[at] = chosen
        return np.delete(index, pairs[1]), np.delete(rows, pairs[0])

    def _forget(self) -> None:
        """Forget tracks that were lost too long ago, those seen once only, and lost ones that another track has taken over."""
        tracks = self._tracks
        here = tracks.seen == self._frame
        stays = here | ((tracks.ids != UNTRACKED) & (self._frame - tracks.seen <= self._max_age))
        boxes = _corners(tracks.motion.position)
        seen, lost = np.flatnonzero(here & (tracks.ids != UNTRACKED)), np.flatnonzero(stays & ~here)
        for a, b in np.argwhere(overlaps(boxes[seen], boxes[lost]) > _SAME).tolist():
            first, second = seen[a], lost[b]
            longer = self._frame - tracks.born[first] > tracks.seen[second] - tracks.born[second]
            stays[second if longer else first] = False
        tracks.keep(np.flatnonzero(stays))


def _measured(boxes: Array) -> Array:
    """Centre, width / height, and height of boxes [n, 4]."""
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, size[:, :1] / size[:, 1:], size[:, 1:]], axis=1)


def _corners(position: Array) -> Array:
    """The boxes of which `_measured` makes these positions."""
    height = position[:, 3:]
    size = np.concatenate([position[:, 2:3] * height, height], axis=1)
    return corners(position[:, :2], size)


def _spread(height: Array, factor: float, ratio: float) -> Array:
    """Standard deviations [n, 4] of centre, ratio and height for boxes of these heights [n, 1]."""
    in_pixels = factor * height
    return np.concatenate([in_pixels, in_pixels, np.full_like(height, ratio), in_pixels], axis=1)


def _started(position: Array) -> Motion:
    height = position[:, 3:]
    return Motion(position, _spread(height, 2 * _POSITION, 1e-2) ** 2, _spread(height, 10 * _VELOCITY, 1e-5) ** 2)
