"""Text detection by differentiable binarization."""

from typing import Annotated

from msgspec import Meta

from axforge.axruntime.lazy import Array, cv2, np
from axforge.axruntime.pipeline.boxes import hulls
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Fit, Outputs, Share, register

#: Of a map that is smaller than the picture: at most so many times.
_COARSEST = 4


@register
class DecodeDbText(BoxDecoder, frozen=True, tag="decode_db_text"):
    """DB (arXiv:1911.08947), as PP-OCR uses it: a map says how likely each pixel is inside the shrunken core of a line of text.

    Cores are the connected parts above `threshold`. Each gives the smallest turned rectangle around it, which grows on all sides by
    area * unclip / perimeter; its score is the mean of the map in the rectangle. The corners begin at the text's top left and go
    clockwise. Rectangles do not overlap, so no nms is needed. dilate: join cores that are one pixel apart. min_size: the shorter side in
    pixels of the map; smaller cores are noise. max_candidates: so many cores are looked at. upright: boxes with horizontal sides.
    """

    takes = "map of probabilities `[1, 1, H, W]`"

    threshold: Share = 0.3
    confidence_threshold: Share = 0.5
    unclip: Annotated[float, Meta(ge=0, le=10)] = 1.6
    dilate: bool = False
    min_size: Annotated[float, Meta(ge=0)] = 3.0
    max_candidates: Count = 1000
    upright: bool = False

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head = network.only
        if head is None or len(head.shape) != 4 or head.shape[1] != 1 or network.channels != 3 or head.last not in ("", "Sigmoid"):
            return None
        height, width = head.shape[2:]
        times = network.height // height if height > 0 else 0
        if not 1 <= times <= _COARSEST or (height * times, width * times) != (network.height, network.width):
            return None
        why = f"one probability for each pixel of a map of {width} x {height}, as of text detection or of a mask of one class"
        return Fit((cls(),), "guess", why, "Whether it is text that the map marks.", 1, labels=("text",))

    def __call__(self, outputs: Outputs, context: DecoderContext) -> Candidates:
        output = self.only(outputs)
        if output.ndim != 4 or output.shape[:2] != (1, 1):
            raise self.misfit(output.shape, "[1, 1, H, W]")
        plane = np.ascontiguousarray(output[0, 0], np.float32)
        core: Array = (plane > self.threshold).astype(np.uint8)
        if self.dilate:
            core = cv2.dilate(core, np.ones((2, 2), np.uint8))
        contours, _ = cv2.findContours(core, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        rows = [row for contour in contours[: self.max_candidates] if (row := self._line(plane, contour)) is not None]
        polygons = np.array([corners for corners, _ in rows], np.float32).reshape(-1, 4, 2)
        polygons *= context.picture_size() / np.array(plane.shape[::-1], np.float32)
        scores = np.array([score for _, score in rows], np.float32)
        if self.upright:
            return self.chosen(hulls(polygons), scores[:, np.newaxis])
        return self.chosen(hulls(polygons), scores[:, np.newaxis], polygons=polygons)

    def _line(self, plane: Array, contour: Array) -> tuple[Array, float] | None:
        """The corners [4, 2] of the line whose core has this contour, in pixels of the map, and its score; None for noise."""
        center, (width, height), angle = cv2.minAreaRect(contour)
        if min(width, height) < self.min_size:
            return None
        score = _mean_inside(plane, cv2.boxPoints((center, (width, height), angle)))
        grown = width * height * self.unclip / (2 * (width + height))
        corners = cv2.boxPoints((center, (width + 2 * grown, height + 2 * grown), angle))
        return from_top_left(corners) + 0.5, score  # contours go through the middles of pixels


def from_top_left(corners: Array) -> Array:
    """The corners [4, 2] of a rectangle, clockwise from the one at the top left of text that is turned by less than 45 degrees."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = (side[np.argsort(side[:, 1], kind="stable")] for side in (by_x[:2], by_x[2:]))
    return np.stack([left[0], right[0], right[1], left[1]])


def _mean_inside(plane: Array, corners: Array) -> float:
    """The mean of `plane` over the pixels of a quadrangle; 0 of none."""
    limit = np.array(plane.shape[::-1]) - 1
    low = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(np.int32)
    high = np.clip(np.ceil(corners.max(axis=0)), 0, limit).astype(np.int32)
    mask = np.zeros((high - low + 1)[::-1], np.uint8)
    cv2.fillPoly(mask, [(corners - low).astype(np.int32)], 1)
    return float(cv2.mean(plane[low[1] : high[1] + 1, low[0] : high[0] + 1], mask)[0])
