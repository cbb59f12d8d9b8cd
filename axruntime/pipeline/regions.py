"""Parts of a picture as pictures of their own: upright boxes cut out, turned ones straightened. Light to import."""

import math

import msgspec

from axforge.axruntime.lazy import Array, cv2, np
from axforge.axruntime.results.masks import of_pixel_centres

#: A turned region is no longer than so many times the picture's longer side, whatever a decoder says.
_LONGEST = 2


class PictureRegion(msgspec.Struct, frozen=True):
    """image: uint8 [h, w, 3]. to_picture: the homography [3, 3] from its pixels to those of the whole picture."""

    image: Array
    to_picture: Array


def upright(picture: Array, box: Array, margin: float) -> PictureRegion | None:
    """The pixels of `box` (left, top, right, bottom) and a margin, in shares of its sides; None where none is in the picture."""
    if not np.isfinite(box).all():
        return None
    grown = box + np.array([-1, -1, 1, 1]) * np.tile(box[2:] - box[:2], 2) * margin
    height, width = picture.shape[:2]
    left, top = max(0, math.floor(grown[0])), max(0, math.floor(grown[1]))
    right, bottom = min(width, math.ceil(grown[2])), min(height, math.ceil(grown[3]))
    if right <= left or bottom <= top:
        return None
    move = np.array([[1.0, 0, left], [0, 1, top], [0, 0, 1]])
    return PictureRegion(np.ascontiguousarray(picture[top:bottom, left:right]), move)


def straightened(picture: Array, corners: Array, margin: float) -> PictureRegion | None:
    """The quadrangle `corners` [4, 2] (clockwise, from the top left of what is in it) and a margin, in shares of its sides, as a rectangle.

    Outside the picture its edge repeats. None for a quadrangle without an area, or outside the picture.
    """
    if not np.isfinite(corners).all():
        return None
    along, down = (corners[1] - corners[0] + corners[2] - corners[3]) / 2, (corners[3] - corners[0] + corners[2] - corners[1]) / 2
    grown = corners + margin * np.stack([-along - down, along - down, along + down, down - along])
    limit = _LONGEST * max(picture.shape[:2])
    width, height = (min(limit, round(float(np.hypot(*side)) * (1 + 2 * margin))) for side in (along, down))
    low, high = grown.min(axis=0), grown.max(axis=0)
    if width < 1 or height < 1 or (high <= 0).any() or (low >= picture.shape[1::-1]).any():
        return None
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    to_picture = cv2.getPerspectiveTransform(target, grown.astype(np.float32))
    if not np.isfinite(to_picture).all():
        return None
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    image = cv2.warpPerspective(picture, of_pixel_centres(to_picture), (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return PictureRegion(np.asarray(image), np.asarray(to_picture))
