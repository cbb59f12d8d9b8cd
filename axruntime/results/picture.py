"""A picture that a network made."""

from typing import ClassVar

from axforge.axruntime.lazy import Array
from axforge.axruntime.results.result import Column, ColumnTypes, PipelineResult, ResultTable


class Picture(PipelineResult, frozen=True):
    """A picture that the network made: uint8 RGB [H, W, 3]. luminance: what it gave, float32 [H, W], for measuring."""

    task = "super-resolution"
    column_types: ClassVar[ColumnTypes] = {"image": ("uint8", (-1, -1, 3))}
    image: Array
    luminance: Array

    def as_json(self) -> dict[str, object]:
        return {"type": "picture", "height": self.image.shape[0], "width": self.image.shape[1]}

    def table(self) -> ResultTable:
        return ResultTable((Column("picture"), Column("size")), (("made by the model", f"{self.image.shape[1]}x{self.image.shape[0]}"),))

    def draw(self, image: Array) -> Array:
        """The picture that the network made, in place of `image`."""
        return self.image
