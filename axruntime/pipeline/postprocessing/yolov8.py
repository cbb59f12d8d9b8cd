"""YOLOv8 and its successors: the exported head, and raw maps (a model cut before its decoding)."""

from dataclasses import replace

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import corners, expected_bin, grid, sigmoid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import Output, RawOutputs, reaching, real, real_part, view
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Certainty, Count, Fit, register

#: Classes of COCO, which a network most likely has when nothing says how many it has.
_COCO = 80
#: An end-to-end head gives at most so many boxes.
_MOST_BOXES = 1000


def end_to_end(shape: tuple[int, ...], width: int) -> bool:
    """Whether an output holds finished boxes, `width` numbers for each."""
    return len(shape) == 3 and shape[0] == 1 and shape[2] == width and 0 < shape[1] <= _MOST_BOXES


@register
class DecodeYolov8(BoxDecoder, frozen=True, tag="decode_yolov8"):
    """YOLOv8 and its successors. The exported head holds centre and size in pixels, and the classes' probabilities.

    An end-to-end head (YOLOv10, YOLO26) holds finished boxes as corners in pixels, score and class, and needs no nms.
    bins: of the distribution of a side's distance from the cell's centre, in raw maps.
    """

    reads_codes = True
    takes = "`[1, 4 + classes, N]` as exported, `[1, N, 6]` from an end-to-end head, or raw maps `[1, 4 * bins + classes, H, W]`"

    classes: Count
    bins: Count = 16

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head = network.only
        if head is not None and end_to_end(head.shape, 6) and network.task in ("", "detect"):
            classes = network.class_names or _COCO
            check = "" if network.class_names else "`classes`: the shape does not say how many there are."
            why = f"up to {head.shape[1]} finished boxes with score and class (end-to-end detection)"
            return replace(cls._fit(network, Fit((cls(classes=classes),), "likely", why, check, classes)), steps=(cls(classes=classes),))
        if head is not None and len(head.shape) == 3 and head.shape[1] > 4 and (strides := network.strides(head.shape[2])):
            classes = head.shape[1] - 4
            if head.features not in ((), (4, classes)) or network.task not in ("", "detect"):
                return None
            why = f"{list(head.shape)} is a box and {classes} scores for each cell of strides {', '.join(map(str, strides))}"
            sure: Certainty = "certain" if head.features and head.computes else "likely" if network.believable(classes) else "guess"
            return cls._fit(network, Fit((cls(classes=classes),), sure, why, classes=classes))
        channels = {head.shape[1] for head in network.heads} if network.map_strides() and len(network.heads) > 1 else set()
        classes = channels.pop() - 64 if len(channels) == 1 else 0
        if classes < 1:
            return None
        why = f"{len(network.heads)} maps of 4 * 16 + {classes} channels: sides as distributions over 16 bins, and class scores"
        return cls._fit(network, Fit((cls(classes=classes),), "likely" if network.believable(classes) else "guess", why, classes=classes))

    @staticmethod
    def _fit(network: Network, fit: Fit) -> Fit:
        feeding = (Resize(width=network.width, height=network.height, letterbox=True), Normalize())
        return replace(fit, steps=(*fit.steps, Nms(iou_threshold=0.7)), feeding=feeding)

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        values = list(outputs.values())
        if len(values) == 1 and end_to_end(values[0].shape, 6):
            rows = real(values[0])[0]
            return self.finished(rows[:, :4], rows[:, 4], rows[:, 5], self.classes)
        if len(values) == 1 and values[0].ndim == 3:
            if values[0].shape[1] != 4 + self.classes:
                raise self.misfit(values[0].shape, f"[1, {4 + self.classes}, N]")
            columns = self.candidates(view(values[0], lambda head: head[0, 4:]), axis=0)
            rows = real_part(values[0], lambda head: head[0][:, columns].T)
            return self.chosen(corners(rows[:, :2], rows[:, 2:4]), rows[:, 4:])
        channels = 4 * self.bins + self.classes
        for output in values:
            if output.ndim != 4 or output.shape[1] != channels:
                raise self.misfit(output.shape, f"[1, {4 + self.classes}, N] or [1, {channels}, H, W]")
        decoded = [self._decoded(output, context.prepared.picture.shape[0]) for output in values]
        boxes, scores = (np.concatenate(part) for part in zip(*decoded, strict=True))
        return self.chosen(boxes, scores)

    def _decoded(self, raw: Output, picture_height: int) -> tuple[Array, Array]:
        """Boxes [n, 4] and scores [n, classes] of the cells of a raw map in which a class reaches the threshold."""
        height, width = raw.shape[2:]
        stride = np.float32(picture_height / height)
        best = view(raw, lambda values: values[0, 4 * self.bins :].reshape(self.classes, -1).max(axis=0))
        cells = np.flatnonzero(reaching(best, sigmoid, self.confidence_threshold))
        rows = real(view(raw, lambda values: values[0].reshape(values.shape[1], -1)[:, cells].T))
        distance = expected_bin(rows[:, : 4 * self.bins].reshape(-1, 4, self.bins))
        center = grid(height, width)[cells] + np.float32(0.5)
        boxes = np.concatenate([center - distance[:, :2], center + distance[:, 2:]], axis=1) * stride
        return boxes, sigmoid(rows[:, 4 * self.bins :])
