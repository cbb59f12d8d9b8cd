"""What every kind of result says of itself, in one class: how it is written, drawn, printed and judged. Light to import."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, Image, np
from axforge.axruntime.packages import missing_named
from axforge.axruntime.results.drawing import ground_of

if TYPE_CHECKING:
    from pandas import DataFrame
    from supervision import Detections as SupervisionDetections

#: What a dataset knows about a sample: its class, the boxes in it, or the class of each pixel.
TruthKind = Literal["class", "boxes", "mask"]
#: NumPy type and shape of arrays, by name.
ColumnTypes = Mapping[str, tuple[str, tuple[int, ...]]]
Cell = str | int | float
R = TypeVar("R")
T = TypeVar("T")


class Column(msgspec.Struct, frozen=True):
    """A column of a table. form: how `str.format` shows a value on a screen; files get the value as it is."""

    name: str
    form: str = "{}"


class ResultTable(msgspec.Struct, frozen=True):
    """Rows of values of full precision, with their columns."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def head(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    def texts(self) -> list[list[str]]:
        """The rows as a screen shows them."""
        return [[column.form.format(value) for column, value in zip(self.columns, row, strict=True)] for row in self.rows]


class Metric(msgspec.Struct, Generic[R, T]):
    """Compares results with truths one at a time and gives figures in per cent. Its fields are plain data: it may cross processes.

    primary: the figure that represents the model. truth: what a dataset must know for this metric. draws: how often figures without
    outcomes are computed again for their interval.
    """

    primary: ClassVar[str]
    truth: ClassVar[TruthKind]
    draws: ClassVar[int] = 200

    def add(self, result: R, truth: T, image: Array) -> None:
        """Count one result. image: the source picture, for its size."""
        raise NotImplementedError

    def merge(self, other: Self) -> None:
        """Add what was added to `other`, as if it had been added here."""
        raise NotImplementedError

    def values(self) -> dict[str, float]:
        """The figures, in per cent, by name."""
        raise NotImplementedError

    def count(self) -> int:
        """How many results were added."""
        raise NotImplementedError

    def outcomes(self) -> dict[str, Array]:
        """Of each figure that is a share of samples: bool [samples], whether the sample is right. Other figures are not in it."""
        return {}

    def agreement(self, reference: Self) -> dict[str, float]:
        """How far these results are those of `reference`, which judged the same samples, whatever is true: figures by name, in per cent."""
        raise NotImplementedError

    def guessing(self) -> float:
        """The primary figure, in per cent, that an answer by chance reaches on these samples."""
        return 0.0

    def resampled(self, chosen: Sequence[int]) -> Self:
        """The metric as if the results with these numbers had been added, each as often as it is named; for figures without outcomes."""
        raise NotImplementedError


class PipelineResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a pipeline gives for one picture. Every number keeps the precision it was computed with; `as_json` loses none of it.

    picture: the source picture, where the caller may want to see the result on it (a run over many frames keeps none).
    column_types: NumPy type ("object" for text) and shape, -1 where free, of the fields that `columns` gives.
    task: what model.json may call the task of a model that gives this; '' for none. metric: what judges it; None where nothing does.
    """

    task: ClassVar[str] = ""
    metric: ClassVar[type[Metric[Any, Any]] | None] = None
    column_types: ClassVar[ColumnTypes] = {}
    picture: Array | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.brief()}>"

    def plot(self, picture: Array | None = None) -> "Image.Image":
        """A Pillow image that shows the result on its picture, or on `picture`, which is uint8 RGB [H, W, 3]. Raises AxforgeError."""
        ground = self.picture if picture is None else picture
        if ground is None:
            raise AxforgeError("the result does not hold the picture it is of", fix="Give the picture: result.plot(picture).")
        with missing_named():
            return Image.fromarray(np.ascontiguousarray(annotate(ground, self)))

    def to_json(self) -> str:
        """The result as the text of a JSON document; null replaces numbers that JSON cannot write (NaN, infinity)."""
        return msgspec.json.encode(self.as_json()).decode()

    def columns(self) -> dict[str, Array]:
        """The result as arrays by name, where its kind has any: of detections boxes, scores, class_ids and labels."""
        return {name: np.asarray(getattr(self, name), dtype=dtype) for name, (dtype, _) in self.column_types.items()}

    def to_dataframe(self) -> "DataFrame":
        """The rows of `table` as a pandas DataFrame, in full precision: a line for each class, box or whatever the result consists of."""
        with missing_named():
            from pandas import DataFrame  # slow to load, and few programs want it
        found = self.table()
        return DataFrame(list(found.rows), columns=found.head())

    def to_supervision(self) -> "SupervisionDetections":
        """The result as `supervision.Detections`, for its annotators, zones and counters. Raises AxforgeError for results without boxes."""
        what = f"a {type(self).__name__} has no boxes, which supervision works with"
        raise AxforgeError(what, fix="Use .table(), .to_dataframe() or .to_json().")

    def as_json(self) -> dict[str, object]:
        """The result as JSON, with its kind as "type"."""
        raise NotImplementedError

    def table(self) -> ResultTable:
        """The result as rows: a line for each class, box or whatever it consists of."""
        raise NotImplementedError

    def draw(self, image: Array) -> Array:
        """A uint8 RGB picture that shows the result on `image`, which is uint8 RGB [H, W, 3] and stays as it is."""
        return image

    def seen(self) -> Sequence[str]:
        """Labels of what is in the picture, one for each time it is there: what is counted over a video."""
        return ()

    def brief(self) -> str:
        """The result in a few words."""
        return ", ".join(f"{n} {name}" if n > 1 else name for name, n in Counter(self.seen()).most_common(6)) or "nothing"

    def placed(self, to_picture: Array, size: tuple[int, int]) -> "PipelineResult":
        """The result of a region, with its places in pixels of the whole picture.

        to_picture: the homography [3, 3] from the region's pixels to the picture's; size: the picture's height and width.
        """
        return self

    def mapped(self, class_map: Sequence[int]) -> "PipelineResult":
        """The result in the classes of a dataset. class_map: the dataset's class of each class of the network."""
        return self


def mean(values: Sequence[float]) -> float:
    """The mean; 0 of nothing."""
    return float(np.mean(values)) if values else 0.0


def label(names: tuple[str, ...], class_id: int) -> str:
    """The name of a class, 'class N' when the model has no name for it."""
    return names[class_id] if 0 <= class_id < len(names) else f"class {class_id}"


def annotate(image: Array, result: PipelineResult) -> Array:
    """A uint8 RGB picture that shows `result` on `image`; an array that is not a picture is shown as one, in grey."""
    return result.draw(ground_of(image))
