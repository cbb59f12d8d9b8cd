"""The mask of one object of a picture. Light to import."""

import msgspec

from axforge.axruntime.lazy import Array, cv2, np


def of_pixel_centres(homography: Array) -> Array:
    """A homography [3, 3] between places in pictures as one between indices of their pixels, whose centres are half a pixel further."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    return np.asarray(np.linalg.inv(half) @ homography @ half)


class InstanceMask(msgspec.Struct, frozen=True):
    """pixels: bool [h, w], whether a pixel belongs to the object, of the rectangle whose first pixel is `left`, `top`; none is outside.

    size: height and width of the source picture.
    """

    left: int
    top: int
    pixels: Array
    size: tuple[int, int]

    def full(self) -> Array:
        """The mask of the whole picture, bool [H, W]."""
        whole = np.zeros(self.size, bool)
        whole[self.rows, self.columns] = self.pixels
        return whole

    @property
    def rows(self) -> slice:
        """The rows of the picture that `pixels` covers."""
        return slice(self.top, self.top + self.pixels.shape[0])

    @property
    def columns(self) -> slice:
        """The columns of the picture that `pixels` covers."""
        return slice(self.left, self.left + self.pixels.shape[1])

    def placed(self, to_picture: Array, size: tuple[int, int]) -> "InstanceMask":
        """The mask of a region, in a picture of `size` (height, width). to_picture: the homography [3, 3] from region to picture."""
        whole = cv2.warpPerspective(self.full().astype(np.uint8), of_pixel_centres(to_picture), size[::-1], flags=cv2.INTER_NEAREST)
        rows, columns = np.flatnonzero(whole.any(axis=1)), np.flatnonzero(whole.any(axis=0))
        if not rows.size:
            return InstanceMask(0, 0, np.zeros((0, 0), bool), size)
        top, left = int(rows[0]), int(columns[0])
        return InstanceMask(left, top, whole[top : rows[-1] + 1, left : columns[-1] + 1] > 0, size)

    def as_json(self) -> dict[str, object]:
        """COCO's run-length encoding, uncompressed: lengths of runs of 0 and 1 by turns, down the columns, starting with 0."""
        flat = self.full().ravel(order="F")
        edges = np.flatnonzero(np.diff(flat, prepend=False))
        return {"size": list(self.size), "counts": np.diff(edges, prepend=0, append=flat.size).tolist()}
