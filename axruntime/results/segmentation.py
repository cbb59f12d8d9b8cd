"""The class of every pixel of a picture."""

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Self

import msgspec

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.results.drawing import class_colour, panel_below
from axforge.axruntime.results.result import Column, ColumnTypes, Metric, PipelineResult, ResultTable, TruthKind, label, mean

#: Value of a pixel in a true mask that is not judged.
IGNORED = 255
#: Share of the class's colour in a pixel of the overlay.
_OVERLAY = 0.55


class PixelCounts(msgspec.Struct, frozen=True):
    """The judged pixels of one picture, by class: in truth and result (`both`), in either, and in truth. right, total: of all.

    answer: the class of each judged pixel in the result, int32, compressed by zlib.
    """

    both: dict[int, int]
    either: dict[int, int]
    true: dict[int, int]
    right: int
    total: int
    answer: bytes

    def classes_found(self) -> Array:
        """The class of each judged pixel in the result: int32 [total]."""
        return np.frombuffer(zlib.decompress(self.answer), np.int32)


class IntersectionOverUnion(Metric["Segmentation", Array]):
    """mIoU (mean over the classes that occur in the truth), the same without class 0, the background, and pixel accuracy."""

    primary: ClassVar[str] = "mIoU"
    truth: ClassVar[TruthKind] = "mask"
    pictures: list[PixelCounts] = msgspec.field(default_factory=list)

    def add(self, result: "Segmentation", truth: Array, image: Array) -> None:
        judged = truth != IGNORED
        mask, truth = result.mask[judged], truth[judged]
        both, either = _shared(mask, truth)
        answer = zlib.compress(mask.astype(np.int32).tobytes(), 1)
        self.pictures.append(PixelCounts(both, either, _counts(truth), int((mask == truth).sum()), truth.size, answer))

    def merge(self, other: Self) -> None:
        self.pictures += other.pictures

    def count(self) -> int:
        return len(self.pictures)

    def agreement(self, reference: Self) -> dict[str, float]:
        """mIoU with the masks of `reference` as the truth (mean over the classes that occur there), and the share of equal pixels."""
        both: Counter[int] = Counter()
        either: Counter[int] = Counter()
        equal, expected = 0, set()
        for mine, other in zip(self.pictures, reference.pictures, strict=True):
            found, wanted = mine.classes_found(), other.classes_found()
            shared, joined = _shared(found, wanted)
            both.update(shared)
            either.update(joined)
            expected |= set(np.unique(wanted).tolist())
            equal += int((found == wanted).sum())
        pixels = sum(picture.total for picture in self.pictures)
        return {"mIoU to fp32": 100 * mean([both[c] / either[c] for c in sorted(expected)]), "same pixels": 100 * equal / max(pixels, 1)}

    def guessing(self) -> float:
        """The best mIoU of an answer that gives one class to every pixel."""
        true: Counter[int] = Counter()
        for picture in self.pictures:
            true.update(picture.true)
        return 100 * max(true.values()) / true.total() / len(true) if len(true) > 1 else 0.0

    def resampled(self, chosen: Sequence[int]) -> Self:
        return type(self)([self.pictures[i] for i in chosen])

    def values(self) -> dict[str, float]:
        both: Counter[int] = Counter()
        either: Counter[int] = Counter()
        for picture in self.pictures:
            both.update(picture.both)
            either.update(picture.either)
        true = {class_id for picture in self.pictures for class_id in picture.true}
        shares = {c: both[c] / n for c, n in sorted(either.items()) if c in true}
        objects = [share for c, share in shares.items() if c != 0]
        right, total = sum(picture.right for picture in self.pictures), sum(picture.total for picture in self.pictures)
        return {
            "mIoU": 100 * mean(list(shares.values())),
            "mIoU of objects": 100 * mean(objects),
            "pixel accuracy": 100 * right / max(total, 1),
        }


def _counts(mask: Array) -> dict[int, int]:
    """The number of pixels of each class that occurs."""
    ids, counts = np.unique(mask, return_counts=True)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


def _shared(a: Array, b: Array) -> tuple[dict[int, int], dict[int, int]]:
    """By class, the number of pixels that have it in both masks, and in one or both."""
    both, either = {}, {}
    for class_id in np.union1d(a, b).tolist():
        first, second = a == class_id, b == class_id
        both[class_id], either[class_id] = int((first & second).sum()), int((first | second).sum())
    return both, either


class Segmentation(PipelineResult, frozen=True):
    """mask: class of each pixel of the source picture, uint8 or int32 [H, W]. labels: name of each class ('' where it has none)."""

    task = "segmentation"
    metric = IntersectionOverUnion
    column_types: ClassVar[ColumnTypes] = {"mask": ("int32", (-1, -1))}
    mask: Array
    labels: tuple[str, ...]

    def areas(self) -> dict[int, int]:
        """Number of pixels of each class that occurs."""
        return _counts(self.mask)

    def runs(self) -> list[list[int]]:
        """The mask row by row as [class, number of pixels] pairs."""
        flat = self.mask.ravel()
        starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
        lengths = np.diff(np.append(starts, flat.size))
        return np.stack([flat[starts].astype(np.int64), lengths], axis=1).tolist()

    def as_json(self) -> dict[str, object]:
        areas = [{"class_id": c, "label": label(self.labels, c), "pixels": n} for c, n in self.areas().items()]
        return {"type": "segmentation", "height": self.mask.shape[0], "width": self.mask.shape[1], "classes": areas, "runs": self.runs()}

    def table(self) -> ResultTable:
        largest = sorted(self.areas().items(), key=lambda item: -item[1])
        rows = tuple((label(self.labels, c), pixels, 100 * pixels / self.mask.size) for c, pixels in largest)
        return ResultTable((Column("class"), Column("pixels"), Column("share", "{:.1f} %")), rows)

    def draw(self, image: Array) -> Array:
        """The picture with every class but 0 tinted, and the classes with their share of the picture in a panel below it."""
        blended = image.astype(np.float32)
        rows = []
        for class_id, count in sorted(self.areas().items(), key=lambda item: -item[1]):
            colour = class_colour(class_id) if class_id else (110, 110, 110)
            rows.append((f"{label(self.labels, class_id)}  {count / self.mask.size:.1%}", colour))
            if class_id:
                where = self.mask == class_id
                blended[where] = (1 - _OVERLAY) * blended[where] + _OVERLAY * np.array(colour, np.float32)
        return panel_below(np.rint(blended).astype(np.uint8), rows[:12])

    def seen(self) -> Sequence[str]:
        return [label(self.labels, class_id) for class_id in self.areas()]
