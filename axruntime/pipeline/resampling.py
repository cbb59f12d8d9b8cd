"""Maps that a network gives, brought to the pixels of the source picture. Light to import."""

import math

from axforge.axruntime.lazy import Array, cv2, np
from axforge.axruntime.pipeline.geometry import Prepared
from axforge.axruntime.results.masks import InstanceMask


def source_to_map(prepared: Prepared, shape: tuple[int, ...]) -> Array:
    """The affine matrix [2, 3] from pixel centres of the source to those of the network's map of `shape` [H, W]."""
    g = prepared.geometry
    height, width = prepared.picture.shape[:2]
    sx, sy = shape[1] / width, shape[0] / height
    return np.array(
        [
            [g.scale_x * sx, 0, (g.scale_x * 0.5 + g.offset_x) * sx - 0.5],
            [0, g.scale_y * sy, (g.scale_y * 0.5 + g.offset_y) * sy - 0.5],
        ]
    )


def sample(plane: Array, matrix: Array, width: int, height: int) -> Array:
    """`plane` [H, W] at the points that `matrix` [2, 3] maps the pixels of a picture to: bilinear, float32 [height, width]."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(plane.astype(np.float32, copy=False), matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    )


def mask_in_box(plane: Array, box: Array, prepared: Prepared) -> InstanceMask:
    """The pixels of the source inside `box` (left, top, right, bottom in its pixels) at which `plane` [H, W] is above 0."""
    g = prepared.geometry
    left, top = (max(0, math.floor(v)) for v in box[:2].tolist())
    right, bottom = min(g.width, math.ceil(float(box[2]))), min(g.height, math.ceil(float(box[3])))
    if right <= left or bottom <= top:
        return InstanceMask(left, top, np.zeros((0, 0), bool), (g.height, g.width))
    matrix = source_to_map(prepared, plane.shape)
    matrix[:, 2] += matrix[:, 0] * left + matrix[:, 1] * top
    return InstanceMask(left, top, sample(plane, matrix, right - left, bottom - top) > 0, (g.height, g.width))
