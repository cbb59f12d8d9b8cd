"""What a pipeline gives back. Every number keeps the precision it was computed with; `as_json` loses none of it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Classification:
    """The likeliest classes, best first. scores: probabilities after a softmax step, else what the network gave."""

    class_ids: tuple[int, ...]
    scores: tuple[float, ...]
    labels: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        rows = zip(self.class_ids, self.scores, self.labels, strict=True)
        return {"type": "classification", "classes": [{"class_id": c, "label": name, "score": s} for c, s, name in rows]}


@dataclass(frozen=True)
class Detections:
    """Boxes, best first: float64 [n, 4] as left, top, right, bottom in pixels of the source picture; scores [n]; class_ids [n]."""

    boxes: Array
    scores: Array
    class_ids: Array
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    def as_json(self) -> dict[str, Any]:
        rows = zip(self.class_ids.tolist(), self.labels, self.scores.tolist(), self.boxes.tolist(), strict=True)
        return {"type": "detections", "detections": [{"class_id": c, "label": n, "score": s, "box": b} for c, n, s, b in rows]}


@dataclass(frozen=True)
class Segmentation:
    """mask: class of each pixel of the source picture, uint8 or int32 [H, W]. labels: name of each class ('' where it has none)."""

    mask: Array
    labels: tuple[str, ...]

    def areas(self) -> dict[int, int]:
        """Number of pixels of each class that occurs."""
        ids, counts = np.unique(self.mask, return_counts=True)
        return dict(zip(ids.tolist(), counts.tolist(), strict=True))

    def runs(self) -> list[list[int]]:
        """The mask row by row as [class, number of pixels] pairs."""
        flat = self.mask.ravel()
        starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
        lengths = np.diff(np.append(starts, flat.size))
        return np.stack([flat[starts].astype(np.int64), lengths], axis=1).tolist()

    def as_json(self) -> dict[str, Any]:
        areas = [{"class_id": c, "label": label(self.labels, c), "pixels": n} for c, n in self.areas().items()]
        return {"type": "segmentation", "height": self.mask.shape[0], "width": self.mask.shape[1], "classes": areas, "runs": self.runs()}


@dataclass(frozen=True)
class Picture:
    """A picture that the network made: uint8 RGB [H, W, 3]. luminance: what it gave, float32 [H, W], for measuring."""

    image: Array
    luminance: Array

    def as_json(self) -> dict[str, Any]:
        return {"type": "picture", "height": self.image.shape[0], "width": self.image.shape[1]}


@dataclass(frozen=True)
class Tensors:
    """The outputs of the network as they are, when model.json has no post-processing."""

    values: dict[str, Array] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"type": "tensors", "tensors": {n: {"shape": list(v.shape), "values": v.ravel().tolist()} for n, v in self.values.items()}}


Result = Classification | Detections | Segmentation | Picture | Tensors


def label(names: tuple[str, ...], class_id: int) -> str:
    """The name of a class, 'class N' when the model has no name for it."""
    return names[class_id] if 0 <= class_id < len(names) else f"class {class_id}"
