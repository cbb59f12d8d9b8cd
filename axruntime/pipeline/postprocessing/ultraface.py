"""UltraFace."""

from axforge.axruntime.lazy import np
from axforge.axruntime.pipeline.candidates import Candidates, Context
from axforge.axruntime.pipeline.step import BoxDecoder, Outputs, register


@register
class DecodeUltraFace(BoxDecoder, frozen=True, tag="decode_ultraface"):
    """UltraFace: scores of background and face, and corners in shares of the picture. scores, boxes: names of these outputs."""

    takes = "scores `[1, N, 2]` and boxes `[1, N, 4]`"

    scores: str = "scores"
    boxes: str = "boxes"

    def __call__(self, outputs: Outputs, context: Context) -> Candidates:
        scores, boxes = self.named(outputs, self.scores), self.named(outputs, self.boxes)
        if scores.ndim != 3 or scores.shape[2] != 2 or boxes.shape != (*scores.shape[:2], 4):
            raise self.misfit(scores.shape, "[1, N, 2] with boxes [1, N, 4]")
        return self.chosen(boxes[0] * np.tile(context.picture_size(), 2), scores[0, :, 1:])
