"""Metrics. Each takes results and truths one at a time and says in the end, in per cent, how good they were."""

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.evaluate.datasets import IGNORED, Boxes
from axforge.axruntime.pipeline.results import Classification, Detections, Result, Segmentation


class Metric(Protocol):
    """primary: the name of the figure that stands for the model."""

    primary: str

    def add(self, result: Result, truth: Any, image: NDArray[Any]) -> None: ...

    def merge(self, other: Self) -> None:
        """Add what was added to `other`, as if it had been added here."""

    def values(self) -> dict[str, float]: ...


class Accuracy:
    """top-1 and, where enough classes are asked for, top-5: share of samples whose class is the best, or among the best five."""

    primary = "top-1"

    def __init__(self) -> None:
        self._ranks: list[int] = []
        self._depth = 0

    def add(self, result: Result, truth: Any, image: NDArray[Any]) -> None:
        found = _expect(result, Classification)
        self._depth = len(found.class_ids)
        self._ranks.append(found.class_ids.index(truth) if truth in found.class_ids else len(found.class_ids))

    def merge(self, other: Self) -> None:
        self._depth = other._depth or self._depth
        self._ranks += other._ranks

    def values(self) -> dict[str, float]:
        ranks = np.array(self._ranks)
        known = [k for k in (1, 5) if k <= self._depth]
        return {f"top-{k}": 100 * float((ranks < k).mean()) for k in known}


class MeanAveragePrecision:
    """mAP50-95 and mAP50 by COCO's rules (101 recall points, at most 100 boxes an image, mean over the classes that occur)."""

    primary = "mAP50-95"

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._truths: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def add(self, result: Result, truth: Boxes, image: NDArray[Any]) -> None:
        found = _expect(result, Detections)
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "height": image.shape[0], "width": image.shape[1]})
        crowd = [0] * len(truth.boxes) if truth.crowd is None else truth.crowd.astype(int).tolist()
        for box, class_id, many in zip(_xywh(truth.boxes), truth.class_ids.tolist(), crowd, strict=True):
            row = {
                "id": len(self._truths) + 1,
                "image_id": image_id,
                "category_id": class_id,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": many,
            }
            self._truths.append(row)
        for box, class_id, score in zip(_xywh(found.boxes), found.class_ids.tolist(), found.scores.tolist(), strict=True):
            self._found.append({"image_id": image_id, "category_id": class_id, "bbox": box, "score": score})

    def merge(self, other: Self) -> None:
        images, truths = len(self._images), len(self._truths)
        self._images += [row | {"id": row["id"] + images} for row in other._images]
        self._truths += [row | {"id": row["id"] + truths, "image_id": row["image_id"] + images} for row in other._truths]
        self._found += [row | {"image_id": row["image_id"] + images} for row in other._found]

    def values(self) -> dict[str, float]:
        if not self._found or not self._truths:
            return {"mAP50-95": 0.0, "mAP50": 0.0}
        from faster_coco_eval import COCO, COCOeval_faster

        ids = sorted({row["category_id"] for row in (*self._truths, *self._found)})
        truth = COCO({"images": self._images, "annotations": self._truths, "categories": [{"id": i, "name": str(i)} for i in ids]})
        judge = COCOeval_faster(truth, truth.loadRes(self._found), "bbox", print_function=_quiet)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        return {"mAP50-95": 100 * float(judge.stats[0]), "mAP50": 100 * float(judge.stats[1])}


def _quiet(*words: object) -> None:
    """COCO's tools print tables; nobody asked for them."""


def _xywh(boxes: NDArray[Any]) -> list[list[float]]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()


class IntersectionOverUnion:
    """mIoU (mean over the classes that occur in the truth), the same without class 0, the background, and pixel accuracy."""

    primary = "mIoU"

    def __init__(self) -> None:
        self._both: dict[int, int] = {}
        self._either: dict[int, int] = {}
        self._true: set[int] = set()
        self._right = self._total = 0

    def add(self, result: Result, truth: NDArray[Any], image: NDArray[Any]) -> None:
        judged = truth != IGNORED
        mask, truth = _expect(result, Segmentation).mask[judged], truth[judged]
        self._true |= set(np.unique(truth).tolist())
        for class_id in np.union1d(mask, truth).tolist():
            a, b = mask == class_id, truth == class_id
            self._both[class_id] = self._both.get(class_id, 0) + int((a & b).sum())
            self._either[class_id] = self._either.get(class_id, 0) + int((a | b).sum())
        self._right += int((mask == truth).sum())
        self._total += truth.size

    def merge(self, other: Self) -> None:
        for counts, others in ((self._both, other._both), (self._either, other._either)):
            for class_id, pixels in others.items():
                counts[class_id] = counts.get(class_id, 0) + pixels
        self._true |= other._true
        self._right += other._right
        self._total += other._total

    def values(self) -> dict[str, float]:
        shares = {c: self._both[c] / n for c, n in sorted(self._either.items()) if c in self._true}
        objects = [share for c, share in shares.items() if c != 0]
        return {
            "mIoU": 100 * float(np.mean(list(shares.values()))) if shares else 0.0,
            "mIoU of objects": 100 * float(np.mean(objects)) if objects else 0.0,
            "pixel accuracy": 100 * self._right / max(self._total, 1),
        }


METRICS: Mapping[str, type[Accuracy] | type[MeanAveragePrecision] | type[IntersectionOverUnion]] = {
    "image-folder": Accuracy,
    "npz": Accuracy,
    "yolo": MeanAveragePrecision,
    "coco": MeanAveragePrecision,
    "segmentation": IntersectionOverUnion,
}


def psnr(a: NDArray[Any], b: NDArray[Any], peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB of two arrays of one shape; infinite when they are equal."""
    error = float(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(peak * peak / error))


def _expect(result: Result, kind: Any) -> Any:
    if not isinstance(result, kind):
        what = f"the dataset judges {kind.__name__.lower()}, and the pipeline gives {type(result).__name__.lower()}"
        raise AxforgeError(what, where="dataset.type", fix="Name a dataset in model.json that fits the post-processing.")
    return result
