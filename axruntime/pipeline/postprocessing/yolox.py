"""YOLOX."""

from axforge.axruntime.lazy import np
from axforge.axruntime.pipeline.boxes import corners, grid
from axforge.axruntime.pipeline.candidates import Candidates, Context
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Outputs, register


@register
class DecodeYolox(BoxDecoder, frozen=True, tag="decode_yolox"):
    """YOLOX: boxes relative to the cells of `strides`, finest first; centre = (t + cell) * stride, size = exp(t) * stride.

    Objectness and classes are probabilities already.
    """

    takes = "`[1, N, 5 + classes]`"

    classes: Count
    strides: tuple[Count, ...] = (8, 16, 32)

    def __call__(self, outputs: Outputs, context: Context) -> Candidates:
        output = self.only(outputs)
        height, width = context.prepared.picture.shape[:2]
        shapes = [(height // s, width // s) for s in self.strides]
        cells = np.concatenate([grid(*shape) for shape in shapes])
        if output.ndim != 3 or output.shape[1:] != (len(cells), 5 + self.classes):
            raise self.misfit(output.shape, f"[1, {len(cells)}, {5 + self.classes}]")
        strides = np.concatenate([np.full((h * w, 1), s, np.float32) for (h, w), s in zip(shapes, self.strides, strict=True)])
        rows = output[0]
        centers = (rows[:, :2] + cells) * strides
        with np.errstate(over="ignore"):  # a box of infinite size is clipped to the picture
            sizes = np.exp(rows[:, 2:4]) * strides
        return self.chosen(corners(centers, sizes), rows[:, 4:5] * rows[:, 5:])
