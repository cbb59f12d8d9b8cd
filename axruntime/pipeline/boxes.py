"""Arithmetic that decoders of boxes share. Light to import."""

from axforge.axruntime.lazy import Array, np


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def grid(height: int, width: int) -> Array:
    """Cell indices [height * width, 2] as x, y, row by row, float32."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def corners(centers: Array, sizes: Array) -> Array:
    """Boxes as left, top, right, bottom from centres and sizes, both [n, 2]."""
    return np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)


def turned(centers: Array, sizes: Array, angles: Array) -> Array:
    """The corners [n, 4, 2] of boxes with centres and sizes [n, 2], turned by angles [n] in radians, clockwise as a picture is seen."""
    along = np.stack([np.cos(angles), np.sin(angles)], axis=1) * sizes[:, :1] / 2
    across = np.stack([-np.sin(angles), np.cos(angles)], axis=1) * sizes[:, 1:] / 2
    return np.stack([centers - along - across, centers + along - across, centers + along + across, centers - along + across], axis=1)


def hulls(polygons: Array) -> Array:
    """The upright boxes [n, 4] around polygons [n, k, 2]."""
    return np.concatenate([polygons.min(axis=1), polygons.max(axis=1)], axis=1)


def expected_bin(logits: Array) -> Array:
    """The mean bin [...] under the softmax of `logits` [..., bins]: a distance as distribution focal loss encodes it."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)) @ np.arange(logits.shape[-1], dtype=np.float32)


def overlaps(first: Array, second: Array) -> Array:
    """Intersection over union [n, m] of every box of `first` [n, 4] with every box of `second` [m, 4]; 0 where both are empty."""
    low = np.maximum(first[:, np.newaxis, :2], second[np.newaxis, :, :2])
    high = np.minimum(first[:, np.newaxis, 2:], second[np.newaxis, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    total = _areas(first)[:, np.newaxis] + _areas(second)[np.newaxis] - both
    return np.divide(both, total, out=np.zeros_like(both), where=total > 0)


def _areas(boxes: Array) -> Array:
    return np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
