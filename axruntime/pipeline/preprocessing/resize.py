"""Bringing a picture to the size that the network takes."""

from typing import Annotated, Literal

from msgspec import Meta

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, Image, cv2, np
from axforge.axruntime.pipeline.geometry import Draft, Geometry
from axforge.axruntime.pipeline.step import PreStep, Size, register


@register
class Resize(PreStep, frozen=True, tag="resize"):
    """To `width` x `height`, or, with `size` alone, so that the shorter side has `size` pixels.

    letterbox: keep the proportions and fill the rest with `pad_value`; the picture is at `position`.
    antialias: average over the source pixels that fall on one new pixel (as Pillow does), for large reductions.
    """

    width: Size | None = None
    height: Size | None = None
    size: Size | None = None
    letterbox: bool = False
    position: Literal["center", "top-left"] = "center"
    pad_value: Annotated[int, Meta(ge=0, le=255)] = 114
    interpolation: Literal["nearest", "bilinear", "bicubic", "area"] = "bilinear"
    antialias: bool = False

    def __post_init__(self) -> None:
        if (self.size is None) == (self.width is None and self.height is None) or (self.width is None) != (self.height is None):
            raise ValueError("Give either `width` and `height`, or `size`")
        if self.letterbox and self.size is not None:
            raise ValueError("A letterbox needs `width` and `height`")
        if self.antialias and self.interpolation in ("nearest", "area"):
            raise ValueError(f"`antialias` means nothing with interpolation '{self.interpolation}'")

    def __call__(self, draft: Draft) -> Draft:
        image = draft.value
        height, width = image.shape[:2]
        new_width, new_height = self._new_size(width, height)
        if self.antialias:
            image = self._averaged(image, new_width, new_height)
        elif (new_width, new_height) != (width, height):
            image = cv2.resize(image, (new_width, new_height), interpolation=getattr(cv2, _CV2[self.interpolation]))
        geometry = draft.geometry.scaled(new_width / width, new_height / height)
        if self.letterbox and self.width and self.height:
            image, geometry = self._padded(self.width, self.height, image, geometry)
        return draft.resized(image, geometry)

    def _averaged(self, image: Array, width: int, height: int) -> Array:
        if image.dtype != np.uint8:
            raise AxforgeError(f"resize with antialias takes 8-bit pictures, this is {image.dtype}")
        kind = Image.Resampling.BICUBIC if self.interpolation == "bicubic" else Image.Resampling.BILINEAR
        return np.asarray(Image.fromarray(image).resize((width, height), kind))

    def _new_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after the resize, without letterbox bars."""
        if self.size is not None:
            factor = self.size / min(width, height)
            return max(self.size, round(width * factor)), max(self.size, round(height * factor))
        box_width, box_height = self.width or width, self.height or height
        if not self.letterbox:
            return box_width, box_height
        factor = min(box_width / width, box_height / height)
        # the networks that want the picture top-left were trained with sizes rounded down
        whole = int if self.position == "top-left" else round
        return max(1, whole(width * factor)), max(1, whole(height * factor))

    def _padded(self, box_width: int, box_height: int, image: Array, geometry: Geometry) -> tuple[Array, Geometry]:
        height, width = image.shape[:2]
        left = 0 if self.position == "top-left" else round((box_width - width) / 2 - 0.1)
        top = 0 if self.position == "top-left" else round((box_height - height) / 2 - 0.1)
        padded = np.full((box_height, box_width, *image.shape[2:]), self.pad_value, image.dtype)
        padded[top : top + height, left : left + width] = image
        return padded, geometry.shifted(left, top)


#: Names of OpenCV's constants.
_CV2 = {"nearest": "INTER_NEAREST", "bilinear": "INTER_LINEAR", "bicubic": "INTER_CUBIC", "area": "INTER_AREA"}
