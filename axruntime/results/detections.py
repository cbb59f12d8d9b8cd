"""Boxes around objects, their mean average precision, and the true boxes it compares them with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self, TypedDict

import msgspec

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.packages import missing_named
from axforge.axruntime.results.drawing import boxes_on, masks_on, points_on
from axforge.axruntime.results.masks import InstanceMask
from axforge.axruntime.results.result import Cell, Column, ColumnTypes, Metric, PipelineResult, ResultTable, TruthKind, mean

if TYPE_CHECKING:
    from supervision import Detections as SupervisionDetections

#: The score from which a box of the float model is one that the compiled model should find.
SURE = 0.5
#: The IoU from which two boxes are of one object.
HALF = 0.5


class Row(TypedDict, total=False):
    """A box in a COCO document, true (area, iscrowd) or found (score). bbox: left, top, width and height in pixels."""

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int
    score: float


class Boxes(msgspec.Struct, frozen=True):
    """True boxes: float64 [n, 4] as left, top, right, bottom in pixels; class_ids int64 [n].

    crowd: bool [n], COCO's mark of a box around many objects, which does not count when it is missed; None where there are none.
    """

    boxes: Array
    class_ids: Array
    crowd: Array | None = None


class MeanAveragePrecision(Metric["Detections", Boxes]):
    """mAP50-95 and mAP50 by COCO's rules (101 recall points, at most 100 boxes an image, mean over the classes that occur)."""

    primary: ClassVar[str] = "mAP50-95"
    truth: ClassVar[TruthKind] = "boxes"
    draws: ClassVar[int] = 40  # each takes as long as the figure itself
    images: list[dict[str, int]] = msgspec.field(default_factory=list)
    truths: list[Row] = msgspec.field(default_factory=list)
    found: list[Row] = msgspec.field(default_factory=list)

    def add(self, result: "Detections", truth: Boxes, image: Array) -> None:
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "height": image.shape[0], "width": image.shape[1]})
        crowd = [0] * len(truth.boxes) if truth.crowd is None else truth.crowd.astype(int).tolist()
        for box, class_id, many in zip(_xywh(truth.boxes), truth.class_ids.tolist(), crowd, strict=True):
            row: Row = {"id": len(self.truths) + 1, "image_id": image_id, "category_id": class_id, "bbox": box}
            self.truths.append(row | {"area": box[2] * box[3], "iscrowd": many})
        for box, class_id, score in zip(_xywh(result.boxes), result.class_ids.tolist(), result.scores.tolist(), strict=True):
            self.found.append({"image_id": image_id, "category_id": class_id, "bbox": box, "score": score})

    def merge(self, other: Self) -> None:
        images, truths = len(self.images), len(self.truths)
        self.images += [row | {"id": row["id"] + images} for row in other.images]
        self.truths += [_shifted(row, id=truths, image_id=images) for row in other.truths]
        self.found += [_shifted(row, image_id=images) for row in other.found]

    def count(self) -> int:
        return len(self.images)

    def agreement(self, reference: Self) -> dict[str, float]:
        """With the boxes of `reference` that are SURE as the truth: AP50; and of those with a box of their class here that overlaps by half
        (IoU), the mean IoU (what boxes lose) and the mean difference of the scores, as points (what classes lose)."""
        sure = [row for row in reference.found if row["score"] >= SURE]
        truths: list[Row] = [row | {"id": i, "area": _area(row), "iscrowd": 0} for i, row in enumerate(sure, start=1)]
        ious, differences = _matched(_by_image(truths), _by_image(self.found))
        ap = type(self)(self.images, truths, self.found).values()["mAP50"]
        if not truths:
            return {}
        return {"AP50 to fp32": ap, "box IoU to fp32": 100 * mean(ious), "scores off by": 100 * mean(differences)}

    def resampled(self, chosen: Sequence[int]) -> Self:
        truths, found = _by_image(self.truths), _by_image(self.found)
        drawn = type(self)()
        for number, index in enumerate(chosen, start=1):
            image_id = index + 1
            drawn.images.append(self.images[index] | {"id": number})
            for row in truths.get(image_id, ()):
                drawn.truths.append(row | {"id": len(drawn.truths) + 1, "image_id": number})
            drawn.found += [row | {"image_id": number} for row in found.get(image_id, ())]
        return drawn

    def values(self) -> dict[str, float]:
        if not self.found or not self.truths:
            return {"mAP50-95": 0.0, "mAP50": 0.0}
        from faster_coco_eval import COCO, COCOeval_faster  # imports matplotlib and OpenCV

        ids = sorted({row["category_id"] for row in (*self.truths, *self.found)})
        truth = COCO({"images": self.images, "annotations": self.truths, "categories": [{"id": i, "name": str(i)} for i in ids]})
        judge = COCOeval_faster(truth, truth.loadRes(self.found), "bbox", print_function=_quiet)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        return {"mAP50-95": 100 * float(judge.stats[0]), "mAP50": 100 * float(judge.stats[1])}


def _matched(truths: dict[object, list[Row]], found: dict[object, list[Row]]) -> tuple[list[float], list[float]]:
    """The IoU and the difference of the scores of each true box and the best box that was found there, where one overlaps by half."""
    from faster_coco_eval.core import mask  # imports OpenCV

    ious, differences = [], []
    for image, rows in truths.items():
        for row in rows:
            near = [other for other in found.get(image, ()) if other["category_id"] == row["category_id"]]
            if not near:
                continue
            overlaps = mask.iou(np.array([other["bbox"] for other in near]), np.array([row["bbox"]]), [0])[:, 0]
            best = int(overlaps.argmax())
            if overlaps[best] >= HALF:
                ious.append(float(overlaps[best]))
                differences.append(abs(near[best]["score"] - row["score"]))
    return ious, differences


def _area(row: Row) -> float:
    _, _, width, height = row["bbox"]
    return width * height


def _quiet(*words: object) -> None:
    """Print nothing: COCO's tools would print tables."""


def _by_image(rows: list[Row]) -> dict[object, list[Row]]:
    """The rows of each image, by its id."""
    grouped: dict[object, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row["image_id"], []).append(row)
    return grouped


def _shifted(row: Row, image_id: int, id: int | None = None) -> Row:
    """The row with its ids made larger by so much; `id` where it has one."""
    moved = row | {"image_id": row["image_id"] + image_id}
    return moved if id is None else moved | {"id": row["id"] + id}


def _moved(points: Array, homography: Array) -> Array:
    """Points [..., 2] as `homography` [3, 3] moves them, float64."""
    x, y = points[..., 0], points[..., 1]
    mapped = np.stack([x * row[0] + y * row[1] + row[2] for row in homography.astype(np.float64)], axis=-1)
    return np.asarray(mapped[..., :2] / mapped[..., 2:])


def _xywh(boxes: Array) -> list[list[float]]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()


class Detections(PipelineResult, frozen=True):
    """Boxes, best first: float64 [n, 4] as left, top, right, bottom in pixels of the source picture; scores [n]; class_ids [n].

    keypoints: float64 [n, k, 3], x, y and confidence. polygons: float64 [n, 4, 2], corners of turned boxes. masks: one for each box.
    Each of these is None for a network that does not give it; points are in pixels of the source picture too, and may be outside it.
    track_ids: int64 [n], the number of the object that a box follows through a video, -1 where it follows none; None without a tracker.
    parts: by the name of another model, what it says of each box, None where it was not asked; empty when no other model ran.
    """

    task = "detection"
    metric = MeanAveragePrecision
    column_types: ClassVar[ColumnTypes] = {
        "boxes": ("float64", (-1, 4)),
        "scores": ("float64", (-1,)),
        "class_ids": ("int64", (-1,)),
        "labels": ("object", (-1,)),
    }
    boxes: Array
    scores: Array
    class_ids: Array
    labels: tuple[str, ...]
    track_ids: Array | None = None
    keypoints: Array | None = None
    polygons: Array | None = None
    masks: tuple[InstanceMask, ...] | None = None
    parts: dict[str, tuple[PipelineResult | None, ...]] = msgspec.field(default_factory=dict)

    def take(self, index: Array) -> "Detections":
        """Those at `index` (int64), in its order."""
        columns = ("boxes", "scores", "class_ids", "track_ids", "keypoints", "polygons")
        kept: dict[str, object] = {name: value[index] for name in columns if (value := getattr(self, name)) is not None}
        names = tuple(self.labels[i] for i in index.tolist())
        masks = None if self.masks is None else tuple(self.masks[i] for i in index.tolist())
        parts = {model: tuple(results[i] for i in index.tolist()) for model, results in self.parts.items()}
        return msgspec.structs.replace(self, labels=names, masks=masks, parts=parts, **kept)

    def placed(self, to_picture: Array, size: tuple[int, int]) -> "Detections":
        quads = _moved(self.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2), to_picture)
        places: dict[str, object] = {"boxes": np.concatenate([quads.min(axis=1), quads.max(axis=1)], axis=1)}
        if self.polygons is not None:
            places["polygons"] = _moved(self.polygons, to_picture)
        elif to_picture[0, 1] or to_picture[1, 0]:
            places["polygons"] = quads
        if self.keypoints is not None:
            places["keypoints"] = np.concatenate([_moved(self.keypoints[..., :2], to_picture), self.keypoints[..., 2:]], axis=-1)
        if self.masks is not None:
            places["masks"] = tuple(mask.placed(to_picture, size) for mask in self.masks)
        places["parts"] = {name: tuple(r and r.placed(to_picture, size) for r in results) for name, results in self.parts.items()}
        return msgspec.structs.replace(self, **places)

    def __len__(self) -> int:
        return len(self.boxes)

    def as_json(self) -> dict[str, object]:
        rows = zip(self.class_ids.tolist(), self.labels, self.scores.tolist(), self.boxes.tolist(), strict=True)
        found: list[dict[str, object]] = [{"class_id": c, "label": n, "score": s, "box": b} for c, n, s, b in rows]
        if self.track_ids is not None:
            found = [{**row, "track_id": track if track >= 0 else None} for row, track in zip(found, self._tracks(), strict=True)]
        return {"type": "detections", "detections": [row | more for row, more in zip(found, self._shapes(), strict=True)]}

    def _shapes(self) -> list[dict[str, object]]:
        """What each box has besides its class and its place, as JSON."""
        shapes: list[dict[str, object]] = [{} for _ in range(len(self))]
        for name, values in (("keypoints", self.keypoints), ("polygon", self.polygons)):
            for shape, value in zip(shapes, () if values is None else values.tolist(), strict=values is not None):
                shape[name] = value
        for shape, mask in zip(shapes, self.masks or (), strict=bool(self.masks)):
            shape["mask"] = mask.as_json()
        for i, shape in enumerate(shapes if self.parts else ()):
            shape["parts"] = {model: result and result.as_json() for model, results in self.parts.items() for result in results[i : i + 1]}
        return shapes

    def table(self) -> ResultTable:
        columns = [Column("object"), Column("score", "{:.3f}"), *(Column(side, "{:.1f}") for side in ("left", "top", "right", "bottom"))]
        values = zip(self.labels, self.scores.tolist(), self.boxes.tolist(), strict=True)
        rows: list[tuple[Cell, ...]] = [(name, score, *box) for name, score, box in values]
        if self.track_ids is not None:
            columns.append(Column("track"))
            rows = [(*row, track if track >= 0 else "") for row, track in zip(rows, self._tracks(), strict=True)]
        for model, results in reversed(self.parts.items()):
            columns.insert(0, Column(model))
            rows = [("" if result is None else result.brief(), *row) for result, row in zip(results, rows, strict=True)]
        return ResultTable(tuple(columns), tuple(rows))

    def draw(self, image: Array) -> Array:
        """The picture with the boxes and their labels; a tracked object has its number and a colour of its own."""
        colours, names = self.class_ids.tolist(), self.labels
        if self.track_ids is not None:
            tracks = self._tracks()
            colours = [track if track >= 0 else colour for track, colour in zip(tracks, colours, strict=True)]
            names = tuple(f"{name} #{track}" if track >= 0 else name for track, name in zip(tracks, names, strict=True))
        ground = image if self.masks is None else masks_on(image, self.masks, colours)
        names = self._with_parts(names)
        turned = None if self.polygons is None else self.polygons.tolist()
        drawn = boxes_on(ground, self.boxes.tolist(), colours, names, self.scores.tolist(), turned)
        for result in (r for results in self.parts.values() for r in results if isinstance(r, Detections)):
            drawn = result.draw(drawn)
        return drawn if self.keypoints is None else points_on(drawn, self.keypoints.tolist(), colours)

    def _with_parts(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names with what other models say of each box, where that is not drawn by itself."""
        for results in self.parts.values():
            said = ["" if r is None or isinstance(r, Detections) else r.brief() for r in results]
            names = tuple(f"{name}: {words}" if words else name for name, words in zip(names, said, strict=True))
        return names

    def to_supervision(self) -> "SupervisionDetections":
        """The boxes as `supervision.Detections`: labels in `data["class_name"]`, and track ids where a tracker gave them."""
        with missing_named():
            from supervision import Detections as Theirs  # slow to load, and few programs want it
        ids = self.class_ids.astype(int)
        names = np.array(self.labels, dtype=str)
        scores = self.scores.astype(np.float32)
        masks = None if self.masks is None else np.array([mask.full() for mask in self.masks], bool)
        return Theirs(self.boxes.astype(np.float32), masks, scores, ids, self.track_ids, data={"class_name": names})

    def _tracks(self) -> list[int]:
        return [] if self.track_ids is None else self.track_ids.tolist()

    def seen(self) -> Sequence[str]:
        return self.labels
