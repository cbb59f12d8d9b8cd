"""A picture on its way to the network, and the way back from the network's pixels to those of the source. Light to import."""

from typing import Literal

import msgspec

from axforge.axruntime.lazy import Array, np


class Geometry(msgspec.Struct, frozen=True):
    """How a point of the source picture maps to the network's: x' = x * scale_x + offset_x, and so for y.

    width, height: of the source picture.
    """

    width: int
    height: int
    scale_x: float = 1.0
    scale_y: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0

    def scaled(self, x: float, y: float) -> "Geometry":
        """After a resize by the factors x, y."""
        return msgspec.structs.replace(
            self, scale_x=self.scale_x * x, scale_y=self.scale_y * y, offset_x=self.offset_x * x, offset_y=self.offset_y * y
        )

    def shifted(self, x: float, y: float) -> "Geometry":
        """After the picture moved right by x and down by y pixels."""
        return msgspec.structs.replace(self, offset_x=self.offset_x + x, offset_y=self.offset_y + y)

    def to_source(self, boxes: Array) -> Array:
        """Boxes (left, top, right, bottom) of the network's picture in the source's pixels, float64, clipped to it."""
        scale = np.array([self.scale_x, self.scale_y] * 2)
        offset = np.array([self.offset_x, self.offset_y] * 2)
        mapped = (np.asarray(boxes, np.float64).reshape(-1, 4) - offset) / scale
        return np.clip(mapped, 0, np.array([self.width, self.height] * 2))

    def points_to_source(self, points: Array) -> Array:
        """Points [..., 2 or more] whose first numbers are x, y of the network's picture, in the source's pixels, float64, not clipped."""
        mapped = np.array(points, np.float64)
        mapped[..., :2] = (mapped[..., :2] - (self.offset_x, self.offset_y)) / (self.scale_x, self.scale_y)
        return mapped


class Draft(msgspec.Struct, frozen=True):
    """A picture between two steps of pre-processing.

    value: [H, W] or [H, W, C] of any type, what the next step works on. picture: the same as last resized or cropped, in its own colours.
    layout: the order of axes that the network's input will have. inner: top, left, height and width of the picture in a letterbox,
    whose other pixels are `pad` in every channel; None without a letterbox. A step on bytes must turn a grey into the same grey to keep it.
    source: the picture before all steps.
    """

    value: Array
    picture: Array
    geometry: Geometry
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    inner: tuple[int, int, int, int] | None = None
    pad: int = 0
    source: Array | None = None

    def resized(self, value: Array, geometry: Geometry) -> "Draft":
        """After a step that changed the picture's size."""
        return msgspec.structs.replace(self, value=value, picture=value, geometry=geometry, inner=None)

    def with_value(self, value: Array) -> "Draft":
        """After a step that changed values only."""
        return msgspec.structs.replace(self, value=value)


class Prepared(msgspec.Struct, frozen=True):
    """What a picture became: the network's input, the picture as last resized or cropped, the way back to the source, and the source."""

    tensor: Array
    picture: Array
    geometry: Geometry
    source: Array | None = None
