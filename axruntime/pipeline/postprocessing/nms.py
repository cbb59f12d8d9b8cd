"""Non-maximum suppression."""

from typing import Self

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import overlaps
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs
from axforge.axruntime.pipeline.step import Count, PostStep, Share, register
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.result import PipelineResult


@register
class Nms(PostStep, frozen=True, tag="nms"):
    """Non-maximum suppression: a box stays if no better one of its class, or of any with `class_agnostic`, overlaps it too much.

    iou_threshold: overlap (intersection over union) up to which both stay.
    max_candidates: only so many of the best boxes are looked at. max_detections: so many stay at most.
    """

    takes = "boxes"
    gives = Detections

    iou_threshold: Share = 0.45
    class_agnostic: bool = False
    max_candidates: Count = 30000
    max_detections: Count = 300

    def __call__(self, found: Candidates) -> Candidates:
        """The best `max_detections` of `found` that do not overlap a better one (of their class), best first."""
        order = np.argsort(-found.scores, kind="stable")[: self.max_candidates]
        boxes = found.boxes.astype(np.float64)
        kept: list[int] = []
        groups = [order] if self.class_agnostic else [order[found.class_ids[order] == c] for c in np.unique(found.class_ids[order])]
        for group in groups:
            kept += greedy(boxes, group, self.iou_threshold, self.max_detections)
        index = np.array(kept, np.int64)
        return found.take(index[np.argsort(-found.scores[index], kind="stable")][: self.max_detections])

    def follow(self, outputs: RawOutputs, found: Candidates | PipelineResult | None, context: DecoderContext) -> Candidates:
        if not isinstance(found, Candidates):
            raise AxforgeError("there are no boxes to choose from", where="postprocessing: nms", fix="Put a decode step before it.")
        return self(found)

    def for_measuring(self, confidence_threshold: float | None, iou_threshold: float | None) -> Self:
        return self if iou_threshold is None else msgspec.structs.replace(self, iou_threshold=iou_threshold)


def greedy(boxes: Array, order: Array, threshold: float, limit: int) -> list[int]:
    """Indices kept of `order` (best first): each box that overlaps no kept one by more than `threshold`."""
    kept: list[int] = []
    while order.size and len(kept) < limit:
        best = int(order[0])
        kept.append(best)
        rest = order[1:]
        order = rest[overlaps(boxes[best : best + 1], boxes[rest])[0] <= threshold]
    return kept
