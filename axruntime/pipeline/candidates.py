"""Boxes between a decoder and the result, and what decoders know besides the network's outputs. Light to import."""

from collections.abc import Callable
from typing import TypeVar, cast

import msgspec

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.geometry import Prepared
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.result import label

T = TypeVar("T")


class StreamMemory:
    """What steps keep from one frame of a stream to the next."""

    def __init__(self) -> None:
        self._kept: dict[int, object] = {}

    def of(self, step: object, make: Callable[[], T]) -> T:
        """What `step`, which lives as long as this does, keeps; made at its first frame."""
        if id(step) not in self._kept:
            self._kept[id(step)] = make()
        return cast(T, self._kept[id(step)])


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
    """What a step of post-processing knows besides the network's outputs: the picture as it was fed, and the names of the classes.

    memory: of the stream that the picture is a frame of; a picture by itself has one of its own.
    """

    prepared: Prepared
    labels: tuple[str, ...] = ()
    memory: StreamMemory = msgspec.field(default_factory=StreamMemory)

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
