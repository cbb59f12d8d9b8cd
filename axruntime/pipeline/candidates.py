"""Boxes between a decoder and the result, and what decoders know besides the network's outputs. Light to import."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, cast

import msgspec

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.geometry import Prepared
from axforge.axruntime.pipeline.resampling import mask_in_box
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.masks import InstanceMask
from axforge.axruntime.results.result import PipelineResult, label

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

    scores: float32 [n]; class_ids: int64 [n]. What only some networks give is None for the others:
    keypoints: float32 [n, k, 3], x and y in pixels of the network's picture, and confidence.
    polygons: float32 [n, 4, 2], the corners of a turned box, of which `boxes` are the upright hulls.
    coefficients: float32 [n, p], of the `prototypes` [p, h, w], which belong to all boxes: their sum is the mask, inside where above 0.
    """

    boxes: Array
    scores: Array
    class_ids: Array
    keypoints: Array | None = None
    polygons: Array | None = None
    coefficients: Array | None = None
    prototypes: Array | None = None

    def take(self, index: Array) -> "Candidates":
        """Those at `index`, in its order."""
        return msgspec.structs.replace(
            self,
            **{
                name: value[index] for name in self.__struct_fields__ if name != "prototypes" and (value := getattr(self, name)) is not None
            },
        )

    def with_prototypes(self, prototypes: Array) -> "Candidates":
        """These boxes with the prototypes [p, h, w] of their masks."""
        return msgspec.structs.replace(self, prototypes=prototypes)


class PictureModel(Protocol):
    """Another model that a step may run on a part of the picture."""

    def run(self, image: Array) -> PipelineResult:
        """The result for a picture, uint8 RGB [H, W, 3]. Raises AxforgeError."""
        ...


class DecoderContext(msgspec.Struct, frozen=True):
    """What a step of post-processing knows besides the network's outputs: the picture as it was fed, and the names of the classes.

    memory: of the stream that the picture is a frame of; a picture by itself has one of its own.
    models: those that steps run on parts of the picture, by name.
    """

    prepared: Prepared
    labels: tuple[str, ...] = ()
    memory: StreamMemory = msgspec.field(default_factory=StreamMemory)
    models: Mapping[str, PictureModel] = msgspec.field(default_factory=dict)

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
        geometry = self.prepared.geometry
        boxes = geometry.to_source(found.boxes)
        return Detections(
            boxes,
            found.scores.astype(np.float64),
            found.class_ids,
            names,
            keypoints=None if found.keypoints is None else geometry.points_to_source(found.keypoints),
            polygons=None if found.polygons is None else geometry.points_to_source(found.polygons),
            masks=self._masks(found, boxes),
        )

    def _masks(self, found: Candidates, boxes: Array) -> tuple[InstanceMask, ...] | None:
        if found.coefficients is None or found.prototypes is None:
            return None
        shape = found.prototypes.shape[1:]
        planes = (row @ found.prototypes.reshape(len(found.prototypes), -1) for row in found.coefficients)
        return tuple(mask_in_box(plane.reshape(shape), box, self.prepared) for plane, box in zip(planes, boxes, strict=True))
