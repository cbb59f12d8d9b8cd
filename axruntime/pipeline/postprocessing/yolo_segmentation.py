"""Instance masks from YOLO: boxes with coefficients of prototypes."""

from axforge.axruntime.pipeline.boxes import corners
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import Output, RawOutputs, real, real_part, view
from axforge.axruntime.pipeline.heads import Head, Network
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.postprocessing.yolov8 import end_to_end
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Certainty, Count, Fit, register


@register
class DecodeYoloSegmentation(BoxDecoder, frozen=True, tag="decode_yolo_segmentation"):
    """Instance masks from YOLOv5, v8 and their successors, as in YOLACT: an object is where a weighted sum of prototypes is above 0.

    Boxes are centre and size in pixels, then classes' probabilities and coefficients; with `objectness` (YOLOv5) boxes come in rows,
    and have it before the classes. An end-to-end head holds corners, score, class and coefficients in rows, and needs no nms.
    The sum is brought to the source's pixels (bilinear) before it is compared with 0, and counts inside its box only.
    masks: number of prototypes.
    """

    reads_codes = True
    takes = "boxes `[1, 4 + classes + masks, N]` and prototypes `[1, masks, H, W]`; boxes `[1, N, 6 + masks]` from an end-to-end head"

    classes: Count
    masks: Count = 32
    objectness: bool = False

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        boxes = [head for head in network.heads if len(head.shape) == 3]
        planes = [head for head in network.heads if len(head.shape) == 4]
        if len(network.heads) != 2 or len(boxes) != 1 or len(planes) != 1 or network.task not in ("", "segment"):
            return None
        masks, found = planes[0].shape[1], cls._read(network, boxes[0], planes[0].shape[1])
        if found is None or not found.classes > 0 < masks:
            return None
        sure: Certainty = "certain" if network.task == "segment" else "likely" if network.believable(found.classes) else "guess"
        why = f"{found.classes} scores and {masks} mask coefficients for each box, and {masks} prototypes"
        feeding = (Resize(width=network.width, height=network.height, letterbox=True), Normalize())
        return Fit((found, Nms(iou_threshold=0.7)), sure, why, classes=found.classes, feeding=feeding)

    @classmethod
    def _read(cls, network: Network, boxes: Head, masks: int) -> "DecodeYoloSegmentation | None":
        _, first, second = boxes.shape
        if network.strides(second) and first > 4 + masks:
            return cls(classes=first - 4 - masks, masks=masks)
        if first % 3 == 0 and network.strides(first // 3) and second > 5 + masks:
            return cls(classes=second - 5 - masks, masks=masks, objectness=True)
        return None

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        boxes, prototypes = self._sorted(outputs)
        if end_to_end(boxes.shape, 6 + self.masks):
            rows = real(boxes)[0]
            found = self.finished(rows[:, :4], rows[:, 4], rows[:, 5], self.classes, coefficients=rows[:, 6:])
        else:
            found = self._decoded(boxes)
        return found.with_prototypes(real(prototypes)[0])

    def _decoded(self, boxes: Output) -> Candidates:
        """The boxes of a head that is not end to end."""
        first, last = 4 + self.objectness, 4 + self.objectness + self.classes
        width = boxes.shape[2] if self.objectness else boxes.shape[1]
        if boxes.shape[0] != 1 or width != last + self.masks:
            raise self.misfit(boxes.shape, f"{self._expected()} with prototypes [1, {self.masks}, H, W]")
        if self.objectness:
            head = view(boxes, lambda values: values[0])
            chosen = self.candidates_of_products(view(head, lambda values: values[:, 4]), view(head, lambda values: values[:, first:last]))
            rows = real_part(head, lambda values: values[chosen])
            scores = rows[:, first:last] * rows[:, 4:5]
        else:
            columns = self.candidates(view(boxes, lambda values: values[0, first:last]), axis=0)
            rows = real_part(boxes, lambda values: values[0][:, columns].T)
            scores = rows[:, first:last]
        return self.chosen(corners(rows[:, :2], rows[:, 2:4]), scores, coefficients=rows[:, last:])

    def _sorted(self, outputs: RawOutputs) -> tuple[Output, Output]:
        """Boxes with three axes, and prototypes [1, masks, H, W]."""
        boxes = [value for value in outputs.values() if value.ndim == 3]
        planes = [value for value in outputs.values() if value.ndim == 4]
        if len(outputs) != 2 or len(boxes) != 1 or len(planes) != 1 or planes[0].shape[:2] != (1, self.masks):
            shape = planes[0].shape if planes else next(iter(outputs.values())).shape
            raise self.misfit(shape, f"two outputs, {self._expected()} and prototypes [1, {self.masks}, H, W]")
        return boxes[0], planes[0]

    def _expected(self) -> str:
        width = 4 + self.objectness + self.classes + self.masks
        return f"boxes [1, N, {width}]" if self.objectness else f"boxes [1, {width}, N]"
