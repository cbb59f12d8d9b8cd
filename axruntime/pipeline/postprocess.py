"""The table of post-processing: which function runs which step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from axforge.axruntime.pipeline import classify, dense, detect, nms, results, yolo
from axforge.axruntime.pipeline.results import Result
from axforge.axruntime.pipeline.state import Candidates, State
from axforge.axruntime.pipeline.steps import PostStep

_TABLE: Mapping[type[Any], Callable[[Any, State], State]] = {
    **classify.STEPS,
    **yolo.STEPS,
    **detect.STEPS,
    **nms.STEPS,
    **dense.STEPS,
}


def run(chain: Sequence[PostStep], state: State) -> Result:
    """What the steps of `chain` make of the network's outputs; the outputs themselves when the chain is empty."""
    for step in chain:
        state = _TABLE[type(step)](step, state)
    if state.result is not None:
        return state.result
    if state.candidates is not None:
        return _detections(state, state.candidates)
    return results.Tensors(dict(state.outputs))


def _detections(state: State, found: Candidates) -> results.Detections:
    order = np.argsort(-found.scores, kind="stable")
    found = found.take(order)
    names = tuple(results.label(state.labels, int(c)) for c in found.class_ids)
    boxes = state.prepared.geometry.to_source(found.boxes)
    return results.Detections(boxes, found.scores.astype(np.float64), found.class_ids, names)
