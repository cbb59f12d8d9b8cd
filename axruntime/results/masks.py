"""The mask of one object of a picture. Light to import."""

import msgspec

from axforge.axruntime.lazy import Array, np


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

    def as_json(self) -> dict[str, object]:
        """COCO's run-length encoding, uncompressed: lengths of runs of 0 and 1 by turns, down the columns, starting with 0."""
        flat = self.full().ravel(order="F")
        edges = np.flatnonzero(np.diff(flat, prepend=False))
        return {"size": list(self.size), "counts": np.diff(edges, prepend=0, append=flat.size).tolist()}
