"""Semantic segmentation."""

from axforge.axruntime.lazy import np
from axforge.axruntime.pipeline.candidates import DecoderContext
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.resampling import sample, source_to_map
from axforge.axruntime.pipeline.step import Certainty, Decoder, Fit, Outputs, register
from axforge.axruntime.results.segmentation import Segmentation

#: A map of classes is at most so many times smaller than the picture.
_COARSEST = 8


@register
class SemanticSegmentation(Decoder, frozen=True, tag="semantic_segmentation"):
    """The likeliest class of each pixel, at the size of the source picture.

    Scores, not classes, are brought to that size (bilinear), so that edges do not show the network's coarse grid.
    """

    takes = "`[1, classes, H, W]`"
    gives = Segmentation

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head = network.only
        if head is None or len(head.shape) != 4 or head.shape[1] < 2 or head.joined or head.integer:
            return None
        classes, height, width = head.shape[1:]
        if not (0 < height <= network.height <= _COARSEST * height and 0 < width <= network.width <= _COARSEST * width):
            return None
        why = f"{classes} numbers for each of {width} x {height} pixels of a picture of {network.width} x {network.height}"
        sure: Certainty = "likely" if network.believable(classes) or head.last == "Softmax" else "guess"
        check = "Whether these are scores of classes, and not a picture or features." if sure == "guess" else ""
        return Fit((cls(),), sure, why, check, classes)

    def __call__(self, outputs: Outputs, context: DecoderContext) -> Segmentation:
        output = self.only(outputs)
        if output.ndim != 4 or output.shape[0] != 1:
            raise self.misfit(output.shape, "[1, classes, H, W]")
        scores = output[0].astype(np.float32, copy=False)
        matrix = source_to_map(context.prepared, scores.shape[1:])
        g = context.prepared.geometry
        best = np.full((g.height, g.width), -np.inf, np.float32)
        mask = np.zeros((g.height, g.width), np.uint8 if len(scores) <= 256 else np.int32)
        for class_id, plane in enumerate(scores):
            resized = sample(plane, matrix, g.width, g.height)
            better = resized > best
            best[better] = resized[better]
            mask[better] = class_id
        return Segmentation(mask, context.labels)
