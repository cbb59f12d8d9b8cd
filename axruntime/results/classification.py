"""The likeliest classes of a picture."""

from collections.abc import Sequence
from typing import ClassVar, Self

import msgspec

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.results.drawing import class_colour, panel_below
from axforge.axruntime.results.result import Column, ColumnTypes, Metric, PipelineResult, ResultTable, TruthKind


class TopAccuracy(Metric["Classification", int]):
    """top-1 and, where a result has five classes, top-5: share of samples whose class is the best, or among the best five."""

    primary: ClassVar[str] = "top-1"
    truth: ClassVar[TruthKind] = "class"
    ranks: list[int] = msgspec.field(default_factory=list)
    depth: int = 0
    best: list[int] = msgspec.field(default_factory=list)
    truths: list[int] = msgspec.field(default_factory=list)

    def add(self, result: "Classification", truth: int, image: Array) -> None:
        self.depth = len(result.class_ids)
        self.ranks.append(result.class_ids.index(truth) if truth in result.class_ids else len(result.class_ids))
        self.best.append(result.class_ids[0] if result.class_ids else -1)
        self.truths.append(truth)

    def merge(self, other: Self) -> None:
        self.depth = other.depth or self.depth
        self.ranks += other.ranks
        self.best += other.best
        self.truths += other.truths

    def values(self) -> dict[str, float]:
        return {name: 100 * float(right.mean()) for name, right in self.outcomes().items()}

    def count(self) -> int:
        return len(self.ranks)

    def agreement(self, reference: Self) -> dict[str, float]:
        """Share of samples with the same best class."""
        return {"same class": 100 * float(np.mean(np.array(self.best) == np.array(reference.best)))}

    def guessing(self) -> float:
        classes = len(set(self.truths))
        return 100 / classes if classes > 1 else 0.0

    def outcomes(self) -> dict[str, Array]:
        ranks = np.array(self.ranks)
        return {f"top-{k}": ranks < k for k in (1, 5) if k <= self.depth}


class Classification(PipelineResult, frozen=True):
    """The likeliest classes, best first. scores: probabilities after a softmax step, else what the network gave."""

    task = "classification"
    metric = TopAccuracy
    column_types: ClassVar[ColumnTypes] = {"class_ids": ("int64", (-1,)), "scores": ("float64", (-1,)), "labels": ("object", (-1,))}
    class_ids: tuple[int, ...]
    scores: tuple[float, ...]
    labels: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        rows = zip(self.class_ids, self.scores, self.labels, strict=True)
        return {"type": "classification", "classes": [{"class_id": c, "label": name, "score": s} for c, s, name in rows]}

    def table(self) -> ResultTable:
        return ResultTable((Column("class"), Column("score", "{:.4f}")), tuple(zip(self.labels, self.scores, strict=True)))

    def draw(self, image: Array) -> Array:
        """The picture with the classes in a panel below it."""
        forms = ["{}  {:.1%}" if 0 <= score <= 1 else "{}  {:.3g}" for score in self.scores]
        lines = [form.format(name, score) for form, name, score in zip(forms, self.labels, self.scores, strict=True)]
        return panel_below(image, [(line, class_colour(c)) for line, c in zip(lines, self.class_ids, strict=True)])

    def seen(self) -> Sequence[str]:
        return self.labels[:1]

    def brief(self) -> str:
        return f"{self.labels[0]} {self.scores[0]:.3f}"

    def mapped(self, class_map: Sequence[int]) -> "Classification":
        ids = tuple(class_map[c] if c < len(class_map) else -1 for c in self.class_ids)
        return Classification(ids, self.scores, self.labels)
