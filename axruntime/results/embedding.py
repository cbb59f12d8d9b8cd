"""A vector that describes a picture: similar pictures have similar vectors. Galleries of known ones, to match it with."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, np
from axforge.axruntime.results.drawing import class_colour, panel_below
from axforge.axruntime.results.result import Column, ColumnTypes, Metric, PipelineResult, ResultTable, TruthKind

#: Rows compared with all others at once: bounds the memory that a large dataset takes.
_ROWS = 1024


def unit(vectors: Array) -> Array:
    """Vectors [..., n] at length 1, float64; those of length 0 as they are."""
    vectors = np.asarray(vectors, np.float64)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


class Gallery(msgspec.Struct, frozen=True):
    """Known things: a name for each row of `vectors` [n, d], which have length 1."""

    names: tuple[str, ...]
    vectors: Array

    @classmethod
    def read(cls, path: Path) -> "Gallery":
        """The gallery that a JSON of earlier results makes: one entry for each picture, named as its file without suffix.

        Raises AxforgeError for a file that holds no embeddings, or some of different lengths.
        """
        fix = "Write it by running the same model on a folder of known pictures."
        try:
            frames = json.loads(path.read_bytes())["frames"]
            names = tuple(Path(frame["source"]).stem for frame in frames)
            vectors = np.array([frame["result"]["vector"] for frame in frames], np.float64)
        except OSError as e:
            raise AxforgeError(f"the gallery cannot be read: {e.strerror}", where=str(path), fix=fix) from e
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as e:
            raise AxforgeError(f"this is not a JSON of embeddings of one length: {e!r}", where=str(path), fix=fix) from e
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise AxforgeError("the gallery has no embedding, or one that is not finite", where=str(path), fix=fix)
        return cls(names, unit(vectors))


class Match(msgspec.Struct, frozen=True):
    """An entry of a gallery, and the cosine of the angle between its vector and ours: 1 is the same, 0 is unrelated."""

    label: str
    similarity: float


class Retrieval(Metric["Embedding", int]):
    """recall@1 and recall@5: share of samples that have one of their own class among the one or five most similar others.

    Samples whose class occurs only once cannot be found again and do not count.
    """

    primary: ClassVar[str] = "recall@1"
    truth: ClassVar[TruthKind] = "class"
    vectors: list[list[float]] = msgspec.field(default_factory=list)
    classes: list[int] = msgspec.field(default_factory=list)

    def add(self, result: "Embedding", truth: int, image: Array) -> None:
        self.vectors.append(result.vector.tolist())
        self.classes.append(truth)

    def merge(self, other: Self) -> None:
        self.vectors += other.vectors
        self.classes += other.classes

    def values(self) -> dict[str, float]:
        return {name: 100 * int(right.sum()) / max(right.size, 1) for name, right in self.outcomes().items()}

    def count(self) -> int:
        return len(self.classes)

    def agreement(self, reference: Self) -> dict[str, float]:
        """Mean and least cosine of the angles between the vectors of one sample."""
        cosines = (unit(np.array(self.vectors)) * unit(np.array(reference.vectors))).sum(axis=-1)
        return {"mean cosine to fp32": 100 * float(cosines.mean()), "least cosine to fp32": 100 * float(cosines.min())}

    def guessing(self) -> float:
        classes = len(set(self.classes))
        return 100 / classes if classes > 1 else 0.0

    def outcomes(self) -> dict[str, Array]:
        classes = np.array(self.classes)
        vectors = unit(np.array(self.vectors).reshape(len(classes), -1))
        known, counts = np.unique(classes, return_counts=True)
        judged = np.flatnonzero(np.isin(classes, known[counts > 1]))
        hits = {k: np.zeros(len(judged), bool) for k in (1, 5)}
        for start in range(0, len(judged), _ROWS):
            rows = judged[start : start + _ROWS]
            similar = vectors[rows] @ vectors.T
            similar[np.arange(len(rows)), rows] = -np.inf  # a sample is not among its own neighbours
            nearest = np.argsort(-similar, axis=1, kind="stable")[:, : min(5, len(classes) - 1)]
            same = classes[nearest] == classes[rows, np.newaxis]
            for k, right in hits.items():
                right[start : start + _ROWS] = same[:, :k].any(axis=1)
        return {f"recall@{k}": right for k, right in hits.items()}


class Embedding(PipelineResult, frozen=True):
    """vector: float64 [n]. matches: the most similar entries of a gallery, best first; empty without one."""

    task = "embedding"
    metric = Retrieval
    column_types: ClassVar[ColumnTypes] = {"vector": ("float64", (-1,))}
    vector: Array
    matches: tuple[Match, ...] = ()

    def match(self, gallery: Gallery, k: int = 5) -> tuple[Match, ...]:
        """The `k` entries of `gallery` with the largest cosine, best first; of equal ones the first. Raises AxforgeError."""
        if gallery.vectors.shape[1] != self.vector.size:
            what = f"the gallery has vectors of {gallery.vectors.shape[1]} numbers, and the network gives {self.vector.size}"
            raise AxforgeError(what, where="gallery", fix="Make the gallery with the model that is compared with it.")
        cosines = gallery.vectors @ unit(self.vector)
        best = np.argsort(-cosines, kind="stable")[:k]
        return tuple(Match(gallery.names[i], float(cosines[i])) for i in best.tolist())

    def as_json(self) -> dict[str, object]:
        matches = [{"label": match.label, "similarity": match.similarity} for match in self.matches]
        return {"type": "embedding", "vector": self.vector.tolist(), "matches": matches}

    def table(self) -> ResultTable:
        if self.matches:
            return ResultTable((Column("match"), Column("similarity", "{:.4f}")), tuple((m.label, m.similarity) for m in self.matches))
        return ResultTable((Column("numbers"), Column("length", "{:.4f}")), ((self.vector.size, float(np.linalg.norm(self.vector))),))

    def draw(self, image: Array) -> Array:
        """The picture with the matches in a panel below it."""
        rows = [(f"{match.label}  {match.similarity:.3f}", class_colour(i)) for i, match in enumerate(self.matches)]
        return panel_below(image, rows) if rows else image

    def seen(self) -> Sequence[str]:
        return [match.label for match in self.matches[:1]]

    def brief(self) -> str:
        return f"{self.matches[0].label} {self.matches[0].similarity:.3f}" if self.matches else f"{self.vector.size} numbers"
