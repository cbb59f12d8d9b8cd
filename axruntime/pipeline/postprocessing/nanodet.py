"""NanoDet."""

import msgspec

from axforge.axruntime.lazy import np
from axforge.axruntime.pipeline.boxes import expected_bin, grid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs, real_part, view
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.preprocessing.convert_color import ConvertColor
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Certainty, Count, Fit, Share, register

#: Mean and deviation of ImageNet in 0..255 and in the order BGR, as the NanoDet project has them.
_FEEDING = Normalize(mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395), divisor=1.0)


@register
class DecodeNanoDet(BoxDecoder, frozen=True, tag="decode_nanodet"):
    """NanoDet and NanoDet-Plus: the classes' probabilities, then for each side a distribution of its distance from the cell's point.

    A side's distance is the mean bin times the stride. strides: of the maps, in the order of the rows. bins: of a distribution.
    offset: of a cell's point from its corner, in cells; 0 for NanoDet-Plus, 0.5 for the first NanoDet.
    """

    reads_codes = True
    takes = "`[1, N, classes + 4 * bins]`"

    classes: Count
    strides: tuple[Count, ...] = (8, 16, 32, 64)
    bins: Count = 8
    offset: Share = 0.0

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head, bins = network.only, 8
        if head is None or len(head.shape) != 3 or head.shape[2] <= 4 * bins or head.computes or not network.height:
            return None
        plus, first = network.points((8, 16, 32, 64)), network.points((8, 16, 32))
        if head.shape[1] not in (plus, first):
            return None
        classes = head.shape[2] - 4 * bins
        decoder = cls(classes=classes) if head.shape[1] == plus else cls(classes=classes, strides=(8, 16, 32), offset=0.5)
        sure: Certainty = "likely" if network.believable(classes) else "guess"
        why = f"{list(head.shape)} is {classes} scores and 4 distributions over {bins} bins for each of the cells"
        feeding = (Resize(width=network.width, height=network.height), ConvertColor(to="BGR"), _FEEDING)
        steps = (msgspec.structs.replace(decoder, confidence_threshold=0.35), Nms(iou_threshold=0.6))
        return Fit(steps, sure, why, "Where a cell's point is (`offset`).", classes, feeding)

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        output = self.only(outputs)
        height, width = context.prepared.picture.shape[:2]
        shapes = [(-(-height // stride), -(-width // stride)) for stride in self.strides]  # maps are rounded up
        points = np.concatenate([grid(*shape) for shape in shapes]) + np.float32(self.offset)
        if output.shape != (1, len(points), self.classes + 4 * self.bins):
            raise self.misfit(output.shape, f"[1, {len(points)}, {self.classes + 4 * self.bins}] for a picture of {width}x{height}")
        strides = np.concatenate([np.full((h * w, 1), s, np.float32) for (h, w), s in zip(shapes, self.strides, strict=True)])
        chosen = self.candidates(view(output, lambda values: values[0, :, : self.classes]))
        rows = real_part(output, lambda values: values[0, chosen])
        distance, points = expected_bin(rows[:, self.classes :].reshape(-1, 4, self.bins)), points[chosen]
        boxes = np.concatenate([points - distance[:, :2], points + distance[:, 2:]], axis=1) * strides[chosen]
        size = np.tile(context.picture_size(), 2)
        return self.chosen(np.clip(boxes, 0, size), rows[:, : self.classes])
