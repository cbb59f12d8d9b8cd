"""Oriented boxes from YOLO."""

from axforge.axruntime.pipeline.boxes import hulls, turned
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs, real_part, view
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.nms_rotated import NmsRotated
from axforge.axruntime.pipeline.postprocessing.yolov8 import end_to_end
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Fit, register

#: Classes of DOTA v1, which networks of oriented boxes are usually trained with.
_DOTA = 15


@register
class DecodeYoloObb(BoxDecoder, frozen=True, tag="decode_yolo_obb"):
    """Oriented boxes from YOLOv8 and its successors: centre and size in pixels, the classes' probabilities, and an angle in radians.

    The angle turns the box clockwise, as the picture is seen. Each result is a polygon of four corners and its upright hull.
    An end-to-end head (YOLO26) holds finished boxes as centre, size, score, class and angle, and needs no nms_rotated.
    """

    reads_codes = True
    takes = "`[1, 4 + classes + 1, N]`, or `[1, N, 7]` from an end-to-end head"

    classes: Count

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head = network.only
        if head is not None and end_to_end(head.shape, 7) and (network.task == "obb" or (not network.task and not cls._cells(network))):
            return cls._finished_fit(network, head.shape[1])
        if head is None or len(head.shape) != 3 or not network.strides(head.shape[2]) or (classes := head.shape[1] - 5) < 1:
            return None
        if network.task != "obb" and not (network.task == "" and head.features == (4, classes, 1)):
            return None
        feeding = (Resize(width=network.width, height=network.height, letterbox=True), Normalize())
        why = f"{list(head.shape)} is a box, {classes} scores and an angle for each of the cells"
        return Fit((cls(classes=classes), NmsRotated()), "likely", why, classes=classes, feeding=feeding)

    @staticmethod
    def _cells(network: Network) -> bool:
        """Whether there are as many rows as cells, or anchors in cells: then they are rather those of another head."""
        rows = network.heads[0].shape[1]
        return bool(network.strides(rows) or network.strides(rows // 3))

    @classmethod
    def _finished_fit(cls, network: Network, most: int) -> Fit:
        classes = network.class_names or _DOTA
        check = "" if network.class_names else "`classes`: the shape does not say how many there are."
        feeding = (Resize(width=network.width, height=network.height, letterbox=True), Normalize())
        why = f"up to {most} finished boxes with score, class and an angle (end-to-end oriented detection)"
        return Fit((cls(classes=classes),), "likely", why, check, classes, feeding)

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        output = self.only(outputs)
        if end_to_end(output.shape, 7):
            rows = real_part(output, lambda values: values[0])
            polygons = turned(rows[:, :2], rows[:, 2:4], rows[:, 6])
            return self.finished(hulls(polygons), rows[:, 4], rows[:, 5], self.classes, polygons=polygons)
        if output.ndim != 3 or output.shape[:2] != (1, 5 + self.classes):
            raise self.misfit(output.shape, f"[1, {5 + self.classes}, N] or [1, N, 7]")
        columns = self.candidates(view(output, lambda values: values[0, 4:-1]), axis=0)
        rows = real_part(output, lambda values: values[0][:, columns].T)
        polygons = turned(rows[:, :2], rows[:, 2:4], rows[:, -1])
        return self.chosen(hulls(polygons), rows[:, 4:-1], polygons=polygons)
