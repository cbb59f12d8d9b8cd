"""Text that was read."""

from collections.abc import Sequence
from typing import ClassVar

from axforge.axruntime.lazy import Array
from axforge.axruntime.results.drawing import class_colour, panel_below
from axforge.axruntime.results.result import Column, ColumnTypes, PipelineResult, ResultTable, mean


class Text(PipelineResult, frozen=True):
    """text: what is written. scores: how likely each of its characters is, best 1."""

    task = "text-recognition"
    column_types: ClassVar[ColumnTypes] = {"scores": ("float64", (-1,))}
    text: str
    scores: tuple[float, ...] = ()

    @property
    def score(self) -> float:
        """The mean of the characters' scores; 0 of an empty text."""
        return mean(self.scores)

    def as_json(self) -> dict[str, object]:
        return {"type": "text", "text": self.text, "score": self.score, "character_scores": list(self.scores)}

    def table(self) -> ResultTable:
        return ResultTable((Column("text"), Column("score", "{:.3f}")), ((self.text, self.score),) if self.text else ())

    def draw(self, image: Array) -> Array:
        """The picture with the text in a panel below it."""
        return panel_below(image, [(self.brief(), class_colour(0))])

    def seen(self) -> Sequence[str]:
        return (self.text,) if self.text else ()

    def brief(self) -> str:
        return self.text or "no text"
