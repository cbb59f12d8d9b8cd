"""Decoders of detectors other than the YOLO family's: FastestDet and UltraFace; and what all decoders share."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline import steps
from axforge.axruntime.pipeline.state import Candidates, State, misfit

Array = NDArray[Any]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def grid(height: int, width: int) -> Array:
    """Cell indices [height * width, 2] as x, y, row by row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def corners(centers: Array, sizes: Array) -> Array:
    """Boxes as left, top, right, bottom from centres and sizes, both [n, 2]."""
    return np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)


def candidates(boxes: Array, scores: Array, step: steps.Decode) -> Candidates:
    """Boxes [n, 4] with class scores [n, classes] that reach the threshold: once each, or once for each such class."""
    if step.multi_label:
        row, column = np.nonzero(scores >= step.confidence_threshold)
        return Candidates(boxes[row], scores[row, column], column)
    best = scores.argmax(axis=1)
    top = scores[np.arange(len(scores)), best]
    keep = top >= step.confidence_threshold
    return Candidates(boxes[keep], top[keep], best[keep])


def fastestdet(step: steps.DecodeFastestDet, state: State) -> State:
    """[1, 5 + classes, H, W]: objectness, tanh offset x and y in cells, sigmoid width and height in shares of the picture, classes.

    Source: the decoder of the FastestDet project (score = objectness^0.6 * class^0.4).
    """
    output = state.only_output("decode_fastestdet")
    if output.ndim != 4 or output.shape[:2] != (1, 5 + step.classes):
        raise misfit("decode_fastestdet", output.shape, f"[1, {5 + step.classes}, H, W]")
    height, width = output.shape[2:]
    cells = output[0].reshape(5 + step.classes, -1).T
    picture = _picture_size(state)
    centers = (np.tanh(cells[:, 1:3]) + grid(height, width)) / np.array([width, height], np.float32) * picture
    sizes = sigmoid(cells[:, 3:5]) * picture
    scores = np.clip(cells[:, :1], 0, None) ** 0.6 * np.clip(cells[:, 5:], 0, None) ** 0.4
    return state.with_candidates(candidates(corners(centers, sizes), scores, step))


def ultraface(step: steps.DecodeUltraFace, state: State) -> State:
    """Scores [1, N, 2] (background, face) and corners [1, N, 4] in shares of the picture."""
    for name in (step.scores, step.boxes):
        if name not in state.outputs:
            known = ", ".join(state.outputs)
            raise AxforgeError(
                f"the network has no output '{name}'", where="postprocessing: decode_ultraface", fix=f"Its outputs are: {known}."
            )
    scores, boxes = state.outputs[step.scores], state.outputs[step.boxes]
    if scores.ndim != 3 or scores.shape[2] != 2 or boxes.shape != (*scores.shape[:2], 4):
        raise misfit("decode_ultraface", scores.shape, "[1, N, 2] with boxes [1, N, 4]")
    return state.with_candidates(candidates(boxes[0] * np.tile(_picture_size(state), 2), scores[0, :, 1:], step))


def _picture_size(state: State) -> Array:
    height, width = state.prepared.picture.shape[:2]
    return np.array([width, height], np.float32)


STEPS: Mapping[type[Any], Callable[[Any, State], State]] = {steps.DecodeFastestDet: fastestdet, steps.DecodeUltraFace: ultraface}
