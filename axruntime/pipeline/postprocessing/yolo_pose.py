"""Poses from YOLO: boxes with key points."""

from typing import Literal

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import corners
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs, real_part, view
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.postprocessing.yolov8 import end_to_end
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Fit, register


@register
class DecodeYoloPose(BoxDecoder, frozen=True, tag="decode_yolo_pose"):
    """Poses from YOLOv8 and its successors: centre and size in pixels, the classes' probabilities, and key points in pixels.

    An end-to-end head holds finished boxes as corners, score, class and key points, and needs no nms.
    keypoints: of an object. dimensions: 3 when each has a confidence, 2 when it is x and y alone (their confidence is then 1).
    """

    reads_codes = True
    takes = "`[1, 4 + classes + dimensions * keypoints, N]`, or `[1, N, 6 + dimensions * keypoints]` from an end-to-end head"

    classes: Count = 1
    keypoints: Count = 17
    dimensions: Literal[2, 3] = 3

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head = network.only
        if head is None or len(head.shape) != 3 or not network.strides(head.shape[2]):
            return None
        points = head.features[2] if len(head.features) == 3 else 0
        classes = head.features[1] if points else 1
        if not points and network.task == "pose":
            points = head.shape[1] - 4 - classes
        if points < 6 or network.task not in ("", "pose") or (points % 3 and points % 2):
            return None
        dimensions: Literal[2, 3] = 2 if points % 3 else 3
        why = f"{list(head.shape)} is a box, {classes} scores and {points // dimensions} key points for each of the cells"
        check = "" if points % 6 else "Whether a key point is two numbers or three (`dimensions`)."
        feeding = (Resize(width=network.width, height=network.height, letterbox=True), Normalize())
        step = cls(classes=classes, keypoints=points // dimensions, dimensions=dimensions)
        return Fit((step, Nms(iou_threshold=0.65)), "likely", why, check, classes, feeding, ("person",) if classes == 1 else ())

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        output, points = self.only(outputs), self.keypoints * self.dimensions
        if end_to_end(output.shape, 6 + points):
            rows = real_part(output, lambda values: values[0])
            return self.finished(rows[:, :4], rows[:, 4], rows[:, 5], self.classes, keypoints=self._points(rows[:, 6:]))
        first = 4 + self.classes
        if output.ndim != 3 or output.shape[:2] != (1, first + points):
            raise self.misfit(output.shape, f"[1, {first + points}, N] or [1, N, {6 + points}]")
        columns = self.candidates(view(output, lambda values: values[0, 4:first]), axis=0)
        rows = real_part(output, lambda values: values[0][:, columns].T)
        return self.chosen(corners(rows[:, :2], rows[:, 2:4]), rows[:, 4:first], keypoints=self._points(rows[:, first:]))

    def _points(self, rows: Array) -> Array:
        """[n, keypoints, 3] from rows of numbers."""
        points = rows.reshape(len(rows), self.keypoints, self.dimensions)
        return points if self.dimensions == 3 else np.concatenate([points, np.ones_like(points[:, :, :1])], axis=2)
