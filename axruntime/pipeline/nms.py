"""Non-maximum suppression."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline import steps
from axforge.axruntime.pipeline.state import Candidates, State

Array = NDArray[Any]


def iou(box: Array, boxes: Array) -> Array:
    """Intersection over union of one box with each of `boxes` (left, top, right, bottom); 0 where both are empty."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=1)
    total = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - both
    return np.divide(both, total, out=np.zeros_like(both), where=total > 0)


def greedy(boxes: Array, order: Array, threshold: float, limit: int) -> list[int]:
    """Indices kept of `order` (best first): each box that overlaps no kept one by more than `threshold`."""
    kept: list[int] = []
    while order.size and len(kept) < limit:
        best = int(order[0])
        kept.append(best)
        rest = order[1:]
        order = rest[iou(boxes[best], boxes[rest]) <= threshold]
    return kept


def suppress(step: steps.Nms, found: Candidates) -> Candidates:
    """The best `max_detections` of `found` that do not overlap a better one (of their class), best first."""
    order = np.argsort(-found.scores, kind="stable")[: step.max_candidates]
    boxes = found.boxes.astype(np.float64)
    kept: list[int] = []
    groups = [order] if step.class_agnostic else [order[found.class_ids[order] == c] for c in np.unique(found.class_ids[order])]
    for group in groups:
        kept += greedy(boxes, group, step.iou_threshold, step.max_detections)
    index = np.array(kept, np.int64)
    return found.take(index[np.argsort(-found.scores[index], kind="stable")][: step.max_detections])


def nms(step: steps.Nms, state: State) -> State:
    """Candidates -> fewer candidates."""
    if state.candidates is None:
        raise AxforgeError("there are no boxes to choose from", where="postprocessing: nms", fix="Put a decode step before it.")
    return state.with_candidates(suppress(step, state.candidates))


STEPS: Mapping[type[Any], Callable[[Any, State], State]] = {steps.Nms: nms}
