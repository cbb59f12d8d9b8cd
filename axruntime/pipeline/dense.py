"""Networks that answer for every pixel: semantic segmentation and super-resolution."""

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from axforge.axruntime.pipeline import results, steps
from axforge.axruntime.pipeline.state import State, misfit


def semantic_segmentation(step: steps.SemanticSegmentation, state: State) -> State:
    """[1, classes, H, W] -> the class of each pixel of the source.

    Scores, not classes, are brought to the source's size (bilinear), so that edges do not show the network's coarse grid.
    """
    output = state.only_output("semantic_segmentation")
    if output.ndim != 4 or output.shape[0] != 1:
        raise misfit("semantic_segmentation", output.shape, "[1, classes, H, W]")
    g = state.prepared.geometry
    scores = output[0].astype(np.float32, copy=False)
    height, width = state.prepared.picture.shape[:2]
    sx, sy = scores.shape[2] / width, scores.shape[1] / height
    # pixel centres of the source in the network's map
    matrix = np.array(
        [
            [g.scale_x * sx, 0, (g.scale_x * 0.5 + g.offset_x) * sx - 0.5],
            [0, g.scale_y * sy, (g.scale_y * 0.5 + g.offset_y) * sy - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    best = np.full((g.height, g.width), -np.inf, np.float32)
    mask = np.zeros((g.height, g.width), np.uint8 if len(scores) <= 256 else np.int32)
    for class_id, plane in enumerate(scores):
        resized = cv2.warpAffine(plane, matrix, (g.width, g.height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        better = resized > best
        best[better] = resized[better]
        mask[better] = class_id
    return state.with_result(results.Segmentation(mask, state.labels))


def super_resolution(step: steps.SuperResolution, state: State) -> State:
    """[1, 1, H, W] luminance in 0..1 -> an RGB picture of that size, its colour taken from the network's own picture (bicubic)."""
    output = state.only_output("super_resolution")
    if output.ndim != 4 or output.shape[:2] != (1, 1):
        raise misfit("super_resolution", output.shape, "[1, 1, H, W]")
    luminance = output[0, 0].astype(np.float32, copy=False)
    height, width = luminance.shape
    chroma = cv2.cvtColor(np.ascontiguousarray(state.prepared.picture), cv2.COLOR_RGB2YCrCb)
    larger = cv2.resize(chroma, (width, height), interpolation=cv2.INTER_CUBIC)
    larger[:, :, 0] = np.clip(np.rint(luminance * 255), 0, 255).astype(np.uint8)
    return state.with_result(results.Picture(cv2.cvtColor(larger, cv2.COLOR_YCrCb2RGB), luminance))


STEPS: Mapping[type[Any], Callable[[Any, State], State]] = {
    steps.SemanticSegmentation: semantic_segmentation,
    steps.SuperResolution: super_resolution,
}
