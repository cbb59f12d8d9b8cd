"""Datasets: samples with the truth about them, in a folder below the data root. A sample is read when it is indexed.

type           layout                                                               truth
image-folder   PATH/labels.txt with lines `file class`                              the class
yolo           PATH/images/SPLIT/*.jpg, PATH/labels/SPLIT/*.txt (YOLO format)       boxes and their classes
coco           PATH/SPLIT/*.jpg (or images/SPLIT), annotations/instances_SPLIT.json boxes and their classes
npz            x and y                                                              the class
segmentation   a picture NAME.ext, or a folder of them, each with NAME_mask.ext     the class of each pixel
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array
from axforge.axruntime.media.arrays import read_arrays
from axforge.axruntime.media.files import images_in
from axforge.axruntime.media.images import read_image
from axforge.axruntime.pipeline.descriptor import Descriptor
from axforge.axruntime.results.detections import Boxes
from axforge.axruntime.results.result import TruthKind
from axforge.axruntime.results.segmentation import IGNORED


@dataclass(frozen=True)
class Sample:
    """image: uint8 RGB [H, W, 3], or the dataset's own array. truth: int (class), Boxes, or an integer mask [H, W]."""

    name: str
    image: Array
    truth: Any


class Dataset(ABC):
    """A sequence of samples. type: as model.json names it. truth: what is known about each sample."""

    name: str
    type: ClassVar[str]
    truth: ClassVar[TruthKind]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


class ImageFolder(Dataset):
    """Pictures with one class each."""

    type = "image-folder"
    truth = "class"

    def __init__(self, folder: Path) -> None:
        self.name, self._folder = folder.name, folder
        self._rows = [
            _class_line(line, folder / "labels.txt", i) for i, line in enumerate(_lines(folder / "labels.txt"), 1) if line.strip()
        ]
        _require_some(len(self._rows), folder / "labels.txt")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        file, class_id = self._rows[index]
        return Sample(file, read_image(self._folder / file), class_id)


def _class_line(line: str, path: Path, number: int) -> tuple[str, int]:
    file, _, class_id = line.strip().rpartition(" ")
    if not file or not class_id.isdigit():
        raise AxforgeError(f"this line is not `file class`: {line.strip()[:80]}", where=f"{path}:{number}", fix="Correct the line.")
    return file, int(class_id)


class Yolo(Dataset):
    """Pictures with boxes, in the folders and text files that YOLO trainers use."""

    type = "yolo"
    truth = "boxes"

    def __init__(self, folder: Path, split: str) -> None:
        self.name = f"{folder.name}/{split}"
        images = folder / "images" / split
        self._labels = folder / "labels" / split
        for needed in (images, self._labels):
            if not needed.is_dir():
                splits = sorted(p.name for p in (folder / "images").glob("*") if p.is_dir())
                fix = f"Splits that are there: {', '.join(splits)}." if splits else "A YOLO dataset has images/SPLIT and labels/SPLIT."
                raise AxforgeError(f"the dataset has no folder {needed.parent.name}/{split}", where=str(folder), fix=fix)
        self._files = images_in(images)
        _require_some(len(self._files), images)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        path = self._files[index]
        image = read_image(path)
        labels = self._labels / f"{path.stem}.txt"
        return Sample(path.name, image, _yolo_boxes(labels, image.shape[1], image.shape[0]) if labels.exists() else _NO_BOXES)


_NO_BOXES = Boxes(np.zeros((0, 4)), np.zeros(0, np.int64))


def _yolo_boxes(path: Path, width: int, height: int) -> Boxes:
    """Lines `class x y w h` (centre and size in shares of the picture) in pixels. A picture without boxes may have no file."""
    rows = [line.split() for line in _lines(path) if line.strip()]
    try:
        table = np.array([[float(v) for v in row] for row in rows], np.float64).reshape(len(rows), 5)
    except ValueError:
        raise AxforgeError("a line is not `class x y w h`", where=str(path), fix="Correct the label file.") from None
    centers, sizes = table[:, 1:3] * [width, height], table[:, 3:5] * [width, height]
    return Boxes(np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1), table[:, 0].astype(np.int64))


class Coco(Dataset):
    """Pictures with boxes, as COCO publishes them. Classes are numbered from 0 in the order of COCO's category ids."""

    type = "coco"
    truth = "boxes"

    def __init__(self, folder: Path, split: str) -> None:
        self.name = f"{folder.name}/{split}"
        path = folder / "annotations" / f"instances_{split}.json"
        try:
            document = json.loads(path.read_bytes())
            classes = {c["id"]: i for i, c in enumerate(sorted(document["categories"], key=lambda c: int(c["id"])))}
            self._files = sorted((str(image["file_name"]), int(image["id"])) for image in document["images"])
            self._boxes: dict[int, list[list[float]]] = {}
            for row in document["annotations"]:
                x, y, width, height = (float(v) for v in row["bbox"])
                box = [x, y, x + width, y + height, classes[row["category_id"]], int(row.get("iscrowd", 0))]
                self._boxes.setdefault(int(row["image_id"]), []).append(box)
        except OSError as e:
            raise AxforgeError(f"the annotations cannot be read: {e.strerror}", where=str(path), fix="Put them there.") from e
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as e:
            raise AxforgeError(f"this is not an annotation file of COCO: {e!r}", where=str(path), fix="Copy the file again.") from e
        self._images = folder / split if (folder / split).is_dir() else folder / "images" / split
        _require_some(len(self._files), path)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        file, image_id = self._files[index]
        table = np.array(self._boxes.get(image_id, []), np.float64).reshape(-1, 6)
        truth = Boxes(table[:, :4], table[:, 4].astype(np.int64), table[:, 5].astype(bool))
        return Sample(file, read_image(self._images / file), truth)


class Npz(Dataset):
    """Arrays with one class each."""

    type = "npz"
    truth = "class"

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._x, self._y = read_arrays(path)

    def __len__(self) -> int:
        return len(self._y)

    def __getitem__(self, index: int) -> Sample:
        return Sample(f"{self.name}[{index}]", self._x[index], int(self._y[index]))


class Masks(Dataset):
    """Pictures with a mask each, whose numbers (or palette indices) are classes; 255 means: not judged."""

    type = "segmentation"
    truth = "mask"

    def __init__(self, path: Path, judged: tuple[int, ...] | None = None) -> None:
        self.name, self._judged = path.stem, judged
        files = [p for p in images_in(path) if not p.stem.endswith("_mask")] if path.is_dir() else [path]
        self._pairs = [(file, file.with_name(f"{file.stem}_mask{file.suffix}")) for file in files]
        self._pairs = [(file, mask if mask.exists() else mask.with_suffix(".png")) for file, mask in self._pairs]
        _require_some(len(self._pairs), path)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        file, mask = self._pairs[index]
        try:
            with Image.open(mask) as image:
                truth = np.asarray(image)
        except (OSError, SyntaxError, ValueError) as e:
            raise AxforgeError(f"the mask cannot be read: {e}", where=str(mask), fix="A mask is a picture of class numbers.") from e
        picture = read_image(file)
        if truth.shape != picture.shape[:2] or truth.dtype.kind not in "uib":
            raise AxforgeError(f"the mask has shape {list(truth.shape)}, its picture {list(picture.shape[:2])}", where=str(mask))
        classes = truth.astype(np.int64)
        if self._judged is not None:
            classes[~np.isin(classes, self._judged)] = IGNORED
        return Sample(file.name, picture, classes)


def open_dataset(descriptor: Descriptor, data_root: Path | None, split: str | None = None) -> Dataset:
    """The dataset that model.json names. Raises AxforgeError when it names none, or it is not there."""
    wanted = descriptor.dataset
    if wanted is None:
        fix = 'Add to model.json: "dataset": {"type": "image-folder", "path": "FOLDER"}.'
        raise AxforgeError("model.json names no dataset", where=descriptor.name, fix=fix)
    path = data_root / wanted.path if data_root is not None else Path(wanted.path)
    if not path.exists():
        fix = "Put the dataset there." if data_root is not None else "Name the folder above it with --data-root or AXFORGE_DATA_ROOT."
        raise AxforgeError("the dataset of this model is not there", where=f"{descriptor.name}: {path}", fix=fix)
    match wanted.type:
        case "image-folder":
            return ImageFolder(path)
        case "yolo":
            return Yolo(path, split or wanted.split or "val")
        case "coco":
            return Coco(path, split or wanted.split or "val2017")
        case "npz":
            return Npz(path)
        case "segmentation":
            return Masks(path, wanted.judged_classes)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise AxforgeError(f"the list of labels cannot be read: {e}", where=str(path), fix="Write it, one line for each sample.") from e


def _require_some(count: int, path: Path) -> None:
    if not count:
        raise AxforgeError("the dataset is empty", where=str(path), fix="Put samples there.")
