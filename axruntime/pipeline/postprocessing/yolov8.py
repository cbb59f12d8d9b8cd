"""YOLOv8 and its successors: the exported head, and raw maps (a model cut before its decoding)."""

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import corners, expected_bin, grid, sigmoid
from axforge.axruntime.pipeline.candidates import Candidates, Context
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Outputs, register


@register
class DecodeYolov8(BoxDecoder, frozen=True, tag="decode_yolov8"):
    """YOLOv8 and its successors. The exported head holds centre and size in pixels, and the classes' probabilities.

    bins: of the distribution of a side's distance from the cell's centre, in raw maps.
    """

    takes = "`[1, 4 + classes, N]` as exported, or raw maps `[1, 4 * bins + classes, H, W]`"

    classes: Count
    bins: Count = 16

    def __call__(self, outputs: Outputs, context: Context) -> Candidates:
        values = list(outputs.values())
        if len(values) == 1 and values[0].ndim == 3:
            if values[0].shape[1] != 4 + self.classes:
                raise self.misfit(values[0].shape, f"[1, {4 + self.classes}, N]")
            rows = values[0][0].T
            return self.chosen(corners(rows[:, :2], rows[:, 2:4]), rows[:, 4:])
        channels = 4 * self.bins + self.classes
        for output in values:
            if output.ndim != 4 or output.shape[1] != channels:
                raise self.misfit(output.shape, f"[1, {4 + self.classes}, N] or [1, {channels}, H, W]")
        decoded = [self._decoded(output[0], context.prepared.picture.shape[0]) for output in values]
        boxes, scores = (np.concatenate(part) for part in zip(*decoded, strict=True))
        return self.chosen(boxes, scores)

    def _decoded(self, raw: Array, picture_height: int) -> tuple[Array, Array]:
        """Boxes [H * W, 4] and scores [H * W, classes] of a raw map."""
        height, width = raw.shape[1:]
        stride = np.float32(picture_height / height)
        rows = raw.reshape(raw.shape[0], -1).T
        distance = expected_bin(rows[:, : 4 * self.bins].reshape(-1, 4, self.bins))
        center = grid(height, width) + np.float32(0.5)
        boxes = np.concatenate([center - distance[:, :2], center + distance[:, 2:]], axis=1) * stride
        return boxes, sigmoid(rows[:, 4 * self.bins :])
