"""Decoders of the YOLO family: exported heads (one tensor of boxes) and raw maps (a model cut before its decoding)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axforge.axruntime.pipeline import steps
from axforge.axruntime.pipeline.detect import candidates, corners, grid, sigmoid
from axforge.axruntime.pipeline.state import State, misfit

Array = NDArray[Any]


def yolov5(step: steps.DecodeYolov5, state: State) -> State:
    """[1, N, 5 + classes] (centre, size in pixels, objectness, classes), or raw maps [1, A * (5 + classes), H, W].

    Raw maps (YOLOv5 v5 and later): centre = (2 sigmoid(t) - 0.5 + cell) * stride; size = (2 sigmoid(t))^2 * anchor.
    """
    width = 5 + step.classes
    outputs = list(state.outputs.values())
    if len(outputs) == 1 and outputs[0].ndim == 3:
        if outputs[0].shape[2] != width:
            raise misfit("decode_yolov5", outputs[0].shape, f"[1, N, {width}]")
        rows = outputs[0][0]
    else:
        rows = np.concatenate([_yolov5_map(step, state, m, a) for m, a in zip(_maps(step, outputs), step.anchors, strict=True)])
    scores = rows[:, 4:5] * rows[:, 5:]
    return state.with_candidates(candidates(corners(rows[:, :2], rows[:, 2:4]), scores, step))


def _maps(step: steps.DecodeYolov5, outputs: list[Array]) -> list[Array]:
    """The raw maps as [A, 5 + classes, H, W], finest first."""
    width = 5 + step.classes
    maps = []
    for output in outputs:
        anchors = len(step.anchors[0]) // 2
        if output.ndim == 5 and output.shape[1] == anchors and output.shape[4] == width:
            maps.append(output[0].transpose(0, 3, 1, 2))
        elif output.ndim == 4 and output.shape[1] == anchors * width:
            maps.append(output[0].reshape(anchors, width, *output.shape[2:]))
        else:
            raise misfit("decode_yolov5", output.shape, f"[1, N, {width}] or [1, {anchors * width}, H, W]")
    if len(maps) != len(step.anchors):
        raise misfit("decode_yolov5", [len(maps)], f"{len(step.anchors)} maps, one for each row of `anchors`")
    return sorted(maps, key=lambda m: -m.shape[2] * m.shape[3])


def _yolov5_map(step: steps.DecodeYolov5, state: State, raw: Array, anchors: tuple[float, ...]) -> Array:
    height, width = raw.shape[2:]
    stride = np.float32(state.prepared.picture.shape[0] / height)
    values = sigmoid(raw.reshape(raw.shape[0], raw.shape[1], -1).transpose(0, 2, 1))
    sizes = np.asarray(anchors, np.float32).reshape(-1, 1, 2)
    values[..., :2] = (values[..., :2] * 2 - 0.5 + grid(height, width)) * stride
    values[..., 2:4] = (values[..., 2:4] * 2) ** 2 * sizes
    return values.reshape(-1, raw.shape[1])


def yolov8(step: steps.DecodeYolov8, state: State) -> State:
    """[1, 4 + classes, N] (centre and size in pixels, class probabilities), or raw maps [1, 4 * bins + classes, H, W].

    Raw maps: a side's distance from the cell's centre is the mean of `bins` bins under their softmax (distribution focal loss).
    """
    outputs = list(state.outputs.values())
    if len(outputs) == 1 and outputs[0].ndim == 3:
        if outputs[0].shape[1] != 4 + step.classes:
            raise misfit("decode_yolov8", outputs[0].shape, f"[1, {4 + step.classes}, N]")
        rows = outputs[0][0].T
        return state.with_candidates(candidates(corners(rows[:, :2], rows[:, 2:4]), rows[:, 4:], step))
    channels = 4 * step.bins + step.classes
    for output in outputs:
        if output.ndim != 4 or output.shape[1] != channels:
            raise misfit("decode_yolov8", output.shape, f"[1, {4 + step.classes}, N] or [1, {channels}, H, W]")
    decoded = [_yolov8_map(step, state, o[0]) for o in outputs]
    boxes, scores = (np.concatenate(part) for part in zip(*decoded, strict=True))
    return state.with_candidates(candidates(boxes, scores, step))


def _yolov8_map(step: steps.DecodeYolov8, state: State, raw: Array) -> tuple[Array, Array]:
    height, width = raw.shape[1:]
    stride = np.float32(state.prepared.picture.shape[0] / height)
    rows = raw.reshape(raw.shape[0], -1).T
    bins = rows[:, : 4 * step.bins].reshape(-1, 4, step.bins)
    weights = np.exp(bins - bins.max(axis=2, keepdims=True))
    distance = (weights / weights.sum(axis=2, keepdims=True)) @ np.arange(step.bins, dtype=np.float32)
    center = grid(height, width) + np.float32(0.5)
    boxes = np.concatenate([center - distance[:, :2], center + distance[:, 2:]], axis=1) * stride
    return boxes, sigmoid(rows[:, 4 * step.bins :])


def yolox(step: steps.DecodeYolox, state: State) -> State:
    """[1, N, 5 + classes]: centre = (t + cell) * stride, size = exp(t) * stride, then objectness and classes (already sigmoid)."""
    output = state.only_output("decode_yolox")
    height, width = state.prepared.picture.shape[:2]
    shapes = [(height // s, width // s) for s in step.strides]
    cells = np.concatenate([grid(*shape) for shape in shapes])
    if output.ndim != 3 or output.shape[1:] != (len(cells), 5 + step.classes):
        raise misfit("decode_yolox", output.shape, f"[1, {len(cells)}, {5 + step.classes}]")
    strides = np.concatenate([np.full((h * w, 1), s, np.float32) for (h, w), s in zip(shapes, step.strides, strict=True)])
    rows = output[0]
    centers = (rows[:, :2] + cells) * strides
    with np.errstate(over="ignore"):  # a box of infinite size is clipped to the picture
        sizes = np.exp(rows[:, 2:4]) * strides
    return state.with_candidates(candidates(corners(centers, sizes), rows[:, 4:5] * rows[:, 5:], step))


STEPS: Mapping[type[Any], Callable[[Any, State], State]] = {
    steps.DecodeYolov5: yolov5,
    steps.DecodeYolov8: yolov8,
    steps.DecodeYolox: yolox,
}
