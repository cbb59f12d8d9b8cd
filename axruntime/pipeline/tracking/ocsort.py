"""OC-SORT (Cao et al., "Observation-Centric SORT: Rethinking SORT for Robust Multi-Object Tracking", CVPR 2023)."""

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import overlaps
from axforge.axruntime.pipeline.tracking.association import best_pairs
from axforge.axruntime.pipeline.tracking.kalman import Motion
from axforge.axruntime.pipeline.tracking.sort import MEASURED, OVERLAP, POSITION_NOISE, VELOCITY_NOISE, Sort, boxes_of, measured
from axforge.axruntime.pipeline.tracking.tracks import same_class

#: Frames between the two boxes that a direction is measured with, and how much a direction counts beside an overlap.
_APART, _INERTIA = 3, 0.2


class OcSort(Sort):
    """SORT that trusts boxes more than predictions: the direction of motion counts in pairing (OCM), tracks that are left get a second
    chance at their last box (OCR), and a track that comes back is predicted again along the straight line it must have taken (ORU).
    """

    def __init__(self, *, threshold: float, max_age: int, class_agnostic: bool) -> None:
        super().__init__(threshold=threshold, max_age=max_age, class_agnostic=class_agnostic)
        #: The last boxes of each track, newest first, NaN where there was none: [n, _APART + 1, 4], by frames.
        self._past = np.zeros((0, _APART + 1, 4))
        self._last = np.zeros((0, 4))
        nothing = np.zeros((0, 4))
        #: The motion of each track right after its last box.
        self._then = Motion(nothing, nothing, nothing)

    def _predict(self) -> None:
        super()._predict()
        self._past = np.roll(self._past, 1, axis=1)
        self._past[:, 0] = np.nan

    def _paired(self, boxes: Array, class_ids: Array) -> tuple[Array, Array]:
        tracks = self._tracks
        allowed = same_class(tracks.class_ids, class_ids, agnostic=self._agnostic)
        similar = overlaps(boxes_of(tracks.motion.position), boxes)
        gain = np.where(allowed & (similar >= OVERLAP), similar + _INERTIA * self._consistency(boxes), 0)
        rows, at = best_pairs(np.where(similar >= OVERLAP, np.maximum(gain, 1e-6) * allowed, 0))
        left, free = np.delete(np.arange(len(tracks)), rows), np.delete(np.arange(len(boxes)), at)
        again = overlaps(self._last[left], boxes[free])
        more = best_pairs(np.where(allowed[np.ix_(left, free)] & (again >= OVERLAP), again, 0))
        return np.concatenate([rows, left[more[0]]]), np.concatenate([at, free[more[1]]])

    def _consistency(self, boxes: Array) -> Array:
        """How well the way to each box continues a track's own: (pi / 2 - angle between the two) / pi, in -1/2..1/2; [tracks, boxes]."""
        new = (boxes[:, :2] + boxes[:, 2:]) / 2
        last = (self._last[:, :2] + self._last[:, 2:]) / 2
        before = self._before()
        own = _unit(last - (before[:, :2] + before[:, 2:]) / 2)
        way = _unit(new[np.newaxis] - last[:, np.newaxis])
        angle = np.arccos(np.clip((own[:, np.newaxis] * way).sum(axis=2), -1, 1))
        moving = (np.abs(own).sum(axis=1) > 0)[:, np.newaxis]
        return np.where(moving, (np.pi / 2 - angle) / np.pi, 0)

    def _before(self) -> Array:
        """The box of each track `_APART` frames ago, else its oldest box since then, which may be its last."""
        chosen = self._last.copy()
        for age in range(1, _APART + 1):
            there = ~np.isnan(self._past[:, age, 0])
            chosen[there] = self._past[there, age]
        return chosen

    def _matched(self, rows: Array, boxes: Array) -> None:
        tracks = self._tracks
        for row, box in zip(rows.tolist(), boxes, strict=True):
            if (gap := self._frame - int(tracks.seen[row])) > 1:
                self._travelled(np.array([row]), box, gap)
        super()._matched(rows, boxes)
        self._remember(rows, boxes)

    def _travelled(self, row: Array, box: Array, gap: int) -> None:
        """Predict a track again from its last box, as if it had been seen on the straight line to `box` in the `gap` frames between."""
        motion = self._then.take(row)
        for i in range(1, gap):
            motion.predict(POSITION_NOISE, VELOCITY_NOISE)
            between = self._last[row] + (box - self._last[row]) * (i / gap)
            motion.update(np.array([0]), measured(between), MEASURED)
        motion.predict(POSITION_NOISE, VELOCITY_NOISE)
        self._tracks.motion.put(row, motion)

    def _remember(self, rows: Array, boxes: Array) -> None:
        self._past[rows, 0] = boxes
        self._last[rows] = boxes
        self._then.put(rows, self._tracks.motion.take(rows))

    def _start(self, boxes: Array, class_ids: Array) -> Array:
        rows = super()._start(boxes, class_ids)
        self._past = np.concatenate([self._past, np.full((len(rows), _APART + 1, 4), np.nan)])
        self._last = np.concatenate([self._last, boxes])
        self._then.extend(self._tracks.motion.take(rows))
        self._remember(rows, boxes)
        return rows

    def _keep(self, rows: Array) -> None:
        super()._keep(rows)
        self._past, self._last, self._then = self._past[rows], self._last[rows], self._then.take(rows)


def _unit(vectors: Array) -> Array:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
