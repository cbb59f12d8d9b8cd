"""Boxes between a decoder and the result, and what decoders know besides the network's outputs. Light to import."""

import msgspec

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.geometry import Prepared
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.result import label


class Candidates(msgspec.Struct, frozen=True):
    """Boxes before and after NMS: float32 [n, 4] as left, top, right, bottom in pixels of the network's picture.

    scores: float32 [n]; class_ids: int64 [n].
    """

    boxes: Array
    scores: Array
    class_ids: Array

    def take(self, index: Array) -> "Candidates":
        """Those at `index`, in its order."""
        return Candidates(self.boxes[index], self.scores[index], self.class_ids[index])


class DecoderContext(msgspec.Struct, frozen=True):
    """What a step of post-processing knows besides the network's outputs: the picture as it was fed, and the names of the classes."""

    prepared: Prepared
    labels: tuple[str, ...] = ()

    def picture_size(self) -> Array:
        """Width and height of the network's picture, float32 [2]."""
        height, width = self.prepared.picture.shape[:2]
        return np.array([width, height], np.float32)

    def label(self, class_id: int) -> str:
        """The name of a class."""
        return label(self.labels, class_id)

    def detections(self, found: Candidates) -> Detections:
        """The boxes in pixels of the source picture, best first, with their labels."""
        found = found.take(np.argsort(-found.scores, kind="stable"))
        names = tuple(self.label(int(c)) for c in found.class_ids)
        boxes = self.prepared.geometry.to_source(found.boxes)
        return Detections(boxes, found.scores.astype(np.float64), found.class_ids, names)
