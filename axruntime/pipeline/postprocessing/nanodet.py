"""NanoDet."""

from axforge.axruntime.lazy import np
from axforge.axruntime.pipeline.boxes import expected_bin, grid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Outputs, Share, register


@register
class DecodeNanoDet(BoxDecoder, frozen=True, tag="decode_nanodet"):
    """NanoDet and NanoDet-Plus: the classes' probabilities, then for each side a distribution of its distance from the cell's point.

    A side's distance is the mean bin times the stride. strides: of the maps, in the order of the rows. bins: of a distribution.
    offset: of a cell's point from its corner, in cells; 0 for NanoDet-Plus, 0.5 for the first NanoDet.
    """

    takes = "`[1, N, classes + 4 * bins]`"

    classes: Count
    strides: tuple[Count, ...] = (8, 16, 32, 64)
    bins: Count = 8
    offset: Share = 0.0

    def __call__(self, outputs: Outputs, context: DecoderContext) -> Candidates:
        output = self.only(outputs)
        height, width = context.prepared.picture.shape[:2]
        shapes = [(-(-height // stride), -(-width // stride)) for stride in self.strides]  # maps are rounded up
        points = np.concatenate([grid(*shape) for shape in shapes]) + np.float32(self.offset)
        if output.shape != (1, len(points), self.classes + 4 * self.bins):
            raise self.misfit(output.shape, f"[1, {len(points)}, {self.classes + 4 * self.bins}] for a picture of {width}x{height}")
        strides = np.concatenate([np.full((h * w, 1), s, np.float32) for (h, w), s in zip(shapes, self.strides, strict=True)])
        distance = expected_bin(output[0, :, self.classes :].reshape(-1, 4, self.bins))
        boxes = np.concatenate([points - distance[:, :2], points + distance[:, 2:]], axis=1) * strides
        size = np.tile(context.picture_size(), 2)
        return self.chosen(np.clip(boxes, 0, size), output[0, :, : self.classes])
