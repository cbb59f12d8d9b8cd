"""UltraFace."""

from axforge.axruntime.lazy import np
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs, real_part, view
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Fit, register

#: Anchors in each cell of the maps of strides 8, 16, 32, 64.
_ANCHORS = {8: 3, 16: 2, 32: 2, 64: 3}


@register
class DecodeUltraFace(BoxDecoder, frozen=True, tag="decode_ultraface"):
    """UltraFace: scores of background and face, and corners in shares of the picture. scores, boxes: names of these outputs."""

    reads_codes = True
    takes = "scores `[1, N, 2]` and boxes `[1, N, 4]`"

    scores: str = "scores"
    boxes: str = "boxes"

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        by_width = {head.shape[-1]: head for head in network.heads if len(head.shape) == 3}
        if len(network.heads) != 2 or set(by_width) != {2, 4} or by_width[2].shape[1] != by_width[4].shape[1]:
            return None
        anchors = sum(-(-network.height // s) * -(-network.width // s) * count for s, count in _ANCHORS.items())
        known = by_width[2].shape[1] == anchors
        why = f"{by_width[2].shape[1]} boxes with scores of two classes" + (", as many as UltraFace has anchors" if known else "")
        check = "" if known else "Whether the first class is the background and boxes are corners in shares of the picture."
        feeding = (Resize(width=network.width, height=network.height), Normalize(mean=127.0, std=128.0, divisor=1.0))
        decoder = cls(scores=by_width[2].name, boxes=by_width[4].name, confidence_threshold=0.7)
        return Fit((decoder, Nms(iou_threshold=0.3)), "likely" if known else "guess", why, check, 1, feeding, ("face",))

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        scores, boxes = self.named(outputs, self.scores), self.named(outputs, self.boxes)
        if scores.ndim != 3 or scores.shape[2] != 2 or boxes.shape != (*scores.shape[:2], 4):
            raise self.misfit(scores.shape, "[1, N, 2] with boxes [1, N, 4]")
        rows = self.candidates(view(scores, lambda values: values[0, :, 1:]))
        decoded = real_part(boxes, lambda values: values[0, rows]) * np.tile(context.picture_size(), 2)
        return self.chosen(decoded, real_part(scores, lambda values: values[0, rows, 1:]))
