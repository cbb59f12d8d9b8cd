"""CenterNet."""

from axforge.axruntime.lazy import Array, cv2, np
from axforge.axruntime.pipeline.boxes import corners, sigmoid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import Codes, Output, RawOutputs, real_part
from axforge.axruntime.pipeline.step import BoxDecoder, Count, register


@register
class DecodeCenterNet(BoxDecoder, frozen=True, tag="decode_centernet"):
    """CenterNet ("objects as points"): peaks of a heat map of each class are centres of objects; size and offset are read at the peak.

    A peak is at least as high as its eight neighbours. box: centre = (cell + offset) * stride, size = size * stride.
    probabilities: the heat map holds probabilities already, not logits. max_peaks: so many of the highest are looked at.
    heatmap, size, offset: names of these outputs; offset '' when the network has none.
    """

    reads_codes = True
    takes = "heat map `[1, classes, H, W]`, sizes `[1, 2, H, W]` and offsets `[1, 2, H, W]`"

    classes: Count
    probabilities: bool = False
    max_peaks: Count = 100
    heatmap: str = "hm"
    size: str = "wh"
    offset: str = "reg"

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        heat, sizes = self.named(outputs, self.heatmap), self.named(outputs, self.size)
        offsets = self.named(outputs, self.offset) if self.offset else np.zeros(sizes.shape, np.float32)
        if heat.ndim != 4 or heat.shape[:2] != (1, self.classes):
            raise self.misfit(heat.shape, f"[1, {self.classes}, H, W]")
        for value in (sizes, offsets):
            if value.shape != (1, 2, *heat.shape[2:]):
                raise self.misfit(value.shape, f"[1, 2, {heat.shape[2]}, {heat.shape[3]}], as the heat map has")
        classes, rows, columns = self._peaks(heat)
        stride = context.picture_size() / np.array(heat.shape[:1:-1], np.float32)
        centers = (np.stack([columns, rows], axis=1) + real_part(offsets, lambda values: values[0][:, rows, columns].T)) * stride
        boxes = corners(centers, real_part(sizes, lambda values: values[0][:, rows, columns].T) * stride)
        scores = real_part(heat, lambda values: values[0, classes, rows, columns])
        return self.finished(boxes, scores if self.probabilities else sigmoid(scores), classes, self.classes)

    def _peaks(self, output: Output) -> tuple[Array, Array, Array]:
        """Class, row and column of the highest peaks, highest first."""
        heat = output.values[0].astype(np.int16) if isinstance(output, Codes) else np.asarray(output[0], np.float32)
        highest = np.stack([cv2.dilate(np.ascontiguousarray(plane), np.ones((3, 3), np.uint8)) for plane in heat])
        where = np.nonzero(heat == highest)
        best = np.argsort(-heat[where], kind="stable")[: self.max_peaks]
        classes, rows, columns = (axis[best] for axis in where)
        return classes, rows, columns
