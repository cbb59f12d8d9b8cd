"""Non-maximum suppression of oriented boxes."""

from typing import Self

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, cv2, np
from axforge.axruntime.pipeline.boxes import overlaps
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs
from axforge.axruntime.pipeline.step import Count, PostStep, Share, register
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.result import PipelineResult


@register
class NmsRotated(PostStep, frozen=True, tag="nms_rotated"):
    """Non-maximum suppression of oriented boxes: as `nms`, and the overlap is that of the turned boxes themselves.

    max_candidates: only so many of the best boxes are looked at. max_detections: so many stay at most.
    """

    takes = "oriented boxes"
    gives = Detections

    iou_threshold: Share = 0.45
    class_agnostic: bool = False
    max_candidates: Count = 3000
    max_detections: Count = 300

    def __call__(self, found: Candidates) -> Candidates:
        """The best `max_detections` of `found`, which has polygons, that do not overlap a better one (of their class), best first."""
        if found.polygons is None:
            fix = "Put a decoder of oriented boxes before it, or take nms."
            raise AxforgeError("the boxes before it have no angles", where="postprocessing: nms_rotated", fix=fix)
        kept: list[int] = []
        order = np.argsort(-found.scores, kind="stable")[: self.max_candidates]
        for candidate in order.tolist():
            rivals = [k for k in kept if self.class_agnostic or found.class_ids[k] == found.class_ids[candidate]]
            if not self._hidden(found, candidate, rivals):
                kept.append(candidate)
            if len(kept) == self.max_detections:
                break
        return found.take(np.array(kept, np.int64))

    def _hidden(self, found: Candidates, candidate: int, rivals: list[int]) -> bool:
        """Whether one of `rivals` overlaps `candidate` too much. Hulls are compared first: few of them touch."""
        if not rivals or found.polygons is None:
            return False
        touching = overlaps(found.boxes[candidate : candidate + 1], found.boxes[rivals])[0] > 0
        polygon = found.polygons[candidate]
        return any(polygon_overlap(polygon, found.polygons[k]) > self.iou_threshold for k in np.array(rivals)[touching].tolist())

    def follow(self, outputs: RawOutputs, found: Candidates | PipelineResult | None, context: DecoderContext) -> Candidates:
        if not isinstance(found, Candidates):
            fix = "Put a decoder of oriented boxes before it."
            raise AxforgeError("there are no boxes to choose from", where="postprocessing: nms_rotated", fix=fix)
        return self(found)

    def for_measuring(self, confidence_threshold: float | None, iou_threshold: float | None) -> Self:
        return self if iou_threshold is None else msgspec.structs.replace(self, iou_threshold=iou_threshold)


def polygon_overlap(first: Array, second: Array) -> float:
    """Intersection over union of two convex polygons [n, 2]; 0 where both are empty."""
    origin = first[0]  # near which float32 is fine enough
    a, b = (np.ascontiguousarray(polygon - origin, np.float32) for polygon in (first, second))
    both = float(cv2.intersectConvexConvex(a, b)[0])
    total = cv2.contourArea(a) + cv2.contourArea(b) - both
    return both / total if total > 0 else 0.0
