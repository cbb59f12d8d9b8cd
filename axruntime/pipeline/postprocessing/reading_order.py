"""The order in which one reads what is on a page."""

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs
from axforge.axruntime.pipeline.step import PostStep, register
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.result import PipelineResult


@register
class ReadingOrder(PostStep, frozen=True, tag="reading_order"):
    """Boxes in the order in which one reads: lines from top to bottom, and in a line from left to right, instead of best first.

    A box is in the line of the one above it if its middle is less than half of that one's height further down.
    """

    takes = "boxes"
    gives = Detections

    def follow(self, outputs: RawOutputs, found: Candidates | PipelineResult | None, context: DecoderContext) -> Detections:
        if isinstance(found, Candidates):
            found = context.detections(found)
        if not isinstance(found, Detections):
            raise AxforgeError("there are no boxes to order", where=f"postprocessing: {self.tag()}", fix="Put a decode step before it.")
        return found.take(_order(found.boxes))


def _order(boxes: Array) -> Array:
    """The indices of boxes [n, 4] in reading order, int64 [n]."""
    middles, heights = (boxes[:, 1] + boxes[:, 3]) / 2, boxes[:, 3] - boxes[:, 1]
    lines: list[list[int]] = []
    for i in np.argsort(middles, kind="stable").tolist():
        if lines and middles[i] - middles[lines[-1][0]] < heights[lines[-1][0]] / 2:
            lines[-1].append(i)
        else:
            lines.append([i])
    return np.array([i for line in lines for i in sorted(line, key=lambda i: (boxes[i, 0], i))], np.int64)
