"""FastestDet."""

from axforge.axruntime.lazy import np
from axforge.axruntime.pipeline.boxes import corners, grid, sigmoid
from axforge.axruntime.pipeline.candidates import Candidates, Context
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Outputs, register


@register
class DecodeFastestDet(BoxDecoder, frozen=True, tag="decode_fastestdet"):
    """FastestDet: one map of objectness, offset x and y in cells (tanh), width and height in shares of the picture (sigmoid), and classes.

    As in the decoder of the FastestDet project, score = objectness^0.6 * class^0.4.
    """

    takes = "`[1, 5 + classes, H, W]`"

    classes: Count

    def __call__(self, outputs: Outputs, context: Context) -> Candidates:
        output = self.only(outputs)
        if output.ndim != 4 or output.shape[:2] != (1, 5 + self.classes):
            raise self.misfit(output.shape, f"[1, {5 + self.classes}, H, W]")
        height, width = output.shape[2:]
        cells = output[0].reshape(5 + self.classes, -1).T
        picture = context.picture_size()
        centers = (np.tanh(cells[:, 1:3]) + grid(height, width)) / np.array([width, height], np.float32) * picture
        sizes = sigmoid(cells[:, 3:5]) * picture
        scores = np.clip(cells[:, :1], 0, None) ** 0.6 * np.clip(cells[:, 5:], 0, None) ** 0.4
        return self.chosen(corners(centers, sizes), scores)
