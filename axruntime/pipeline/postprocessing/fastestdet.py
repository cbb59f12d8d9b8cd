"""FastestDet."""

from axforge.axruntime.lazy import np
from axforge.axruntime.pipeline.boxes import corners, grid, sigmoid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.preprocessing.convert_color import ConvertColor
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Fit, Outputs, register


@register
class DecodeFastestDet(BoxDecoder, frozen=True, tag="decode_fastestdet"):
    """FastestDet: one map of objectness, offset x and y in cells (tanh), width and height in shares of the picture (sigmoid), and classes.

    As in the decoder of the FastestDet project, score = objectness^0.6 * class^0.4.
    """

    takes = "`[1, 5 + classes, H, W]`"

    classes: Count

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head = network.only
        if head is None or len(head.shape) != 4 or head.joined != (1, 4, head.shape[1] - 5) or not network.map_strides():
            return None
        classes = head.shape[1] - 5
        why = f"one map that joins 1 channel of objectness, 4 of a box and {classes} of classes"
        feeding = (Resize(width=network.width, height=network.height), ConvertColor(to="BGR"), Normalize())
        steps = (cls(classes=classes, confidence_threshold=0.5), Nms(iou_threshold=0.45))
        return Fit(steps, "likely", why, classes=classes, feeding=feeding)

    def __call__(self, outputs: Outputs, context: DecoderContext) -> Candidates:
        output = self.only(outputs)
        if output.ndim != 4 or output.shape[:2] != (1, 5 + self.classes):
            raise self.misfit(output.shape, f"[1, {5 + self.classes}, H, W]")
        height, width = output.shape[2:]
        cells = output[0].reshape(5 + self.classes, -1).T
        picture = context.picture_size()
        centers = (np.tanh(cells[:, 1:3]) + grid(height, width)) / np.array([width, height], np.float32) * picture
        sizes = sigmoid(cells[:, 3:5]) * picture
        scores = np.clip(cells[:, :1], 0, None) ** 0.6 * np.clip(cells[:, 5:], 0, None) ** 0.4
        return self.chosen(corners(centers, sizes), scores)
