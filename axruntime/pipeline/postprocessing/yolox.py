"""YOLOX."""

from axforge.axruntime.lazy import np
from axforge.axruntime.pipeline.boxes import corners, grid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs, real_part, view
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.preprocessing.convert_color import ConvertColor
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Certainty, Count, Fit, register


@register
class DecodeYolox(BoxDecoder, frozen=True, tag="decode_yolox"):
    """YOLOX: boxes relative to the cells of `strides`, finest first; centre = (t + cell) * stride, size = exp(t) * stride.

    Objectness and classes are probabilities already.
    """

    reads_codes = True
    takes = "`[1, N, 5 + classes]`"

    classes: Count
    strides: tuple[Count, ...] = (8, 16, 32)

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head = network.only
        if (
            head is None
            or len(head.shape) != 3
            or not 6 <= head.shape[2] <= head.shape[1]
            or head.computes
            or not (strides := network.strides(head.shape[1]))
        ):
            return None
        classes = head.shape[2] - 5
        why = (
            f"{list(head.shape)} is a box, objectness and {classes} scores for each cell of strides {', '.join(map(str, strides))}, "
            "and the boxes come undecoded out of the convolutions"
        )
        feeding = (
            Resize(width=network.width, height=network.height, letterbox=True, position="top-left"),
            ConvertColor(to="BGR"),
            Normalize(divisor=1.0),
        )
        steps = (cls(classes=classes, strides=strides), Nms(iou_threshold=0.45))
        # rows that are wide enough for NanoDet's distributions could be NanoDet's
        sure: Certainty = "certain" if head.tail and network.believable(classes) else "guess" if classes > 4 * 8 else "likely"
        return Fit(steps, sure, why, classes=classes, feeding=feeding)

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        output = self.only(outputs)
        height, width = context.prepared.picture.shape[:2]
        shapes = [(height // s, width // s) for s in self.strides]
        cells = np.concatenate([grid(*shape) for shape in shapes])
        if output.ndim != 3 or output.shape[1:] != (len(cells), 5 + self.classes):
            raise self.misfit(output.shape, f"[1, {len(cells)}, {5 + self.classes}]")
        strides = np.concatenate([np.full((h * w, 1), s, np.float32) for (h, w), s in zip(shapes, self.strides, strict=True)])
        head = view(output, lambda values: values[0])
        chosen = self.candidates_of_products(view(head, lambda values: values[:, 4]), view(head, lambda values: values[:, 5:]))
        rows, cells, strides = real_part(head, lambda values: values[chosen]), cells[chosen], strides[chosen]
        centers = (rows[:, :2] + cells) * strides
        with np.errstate(over="ignore"):  # a box of infinite size is clipped to the picture
            sizes = np.exp(rows[:, 2:4]) * strides
        return self.chosen(corners(centers, sizes), rows[:, 4:5] * rows[:, 5:])
