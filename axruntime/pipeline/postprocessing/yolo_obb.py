"""Oriented boxes from YOLO."""

from axforge.axruntime.pipeline.boxes import hulls, turned
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs, real_part, view
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.nms_rotated import NmsRotated
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Fit, register


@register
class DecodeYoloObb(BoxDecoder, frozen=True, tag="decode_yolo_obb"):
    """Oriented boxes from YOLOv8 and its successors: centre and size in pixels, the classes' probabilities, and an angle in radians.

    The angle turns the box clockwise, as the picture is seen. Each result is a polygon of four corners and its upright hull.
    """

    reads_codes = True
    takes = "`[1, 4 + classes + 1, N]`"

    classes: Count

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head = network.only
        if head is None or len(head.shape) != 3 or not network.strides(head.shape[2]) or (classes := head.shape[1] - 5) < 1:
            return None
        if network.task != "obb" and not (network.task == "" and head.features == (4, classes, 1)):
            return None
        feeding = (Resize(width=network.width, height=network.height, letterbox=True), Normalize())
        why = f"{list(head.shape)} is a box, {classes} scores and an angle for each of the cells"
        return Fit((cls(classes=classes), NmsRotated()), "likely", why, classes=classes, feeding=feeding)

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        output = self.only(outputs)
        if output.ndim != 3 or output.shape[:2] != (1, 5 + self.classes):
            raise self.misfit(output.shape, f"[1, {5 + self.classes}, N]")
        columns = self.candidates(view(output, lambda values: values[0, 4:-1]), axis=0)
        rows = real_part(output, lambda values: values[0][:, columns].T)
        polygons = turned(rows[:, :2], rows[:, 2:4], rows[:, -1])
        return self.chosen(hulls(polygons), rows[:, 4:-1], polygons=polygons)
