"""Bringing a picture to the size that the network takes."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, Image, cv2, np
from axforge.axruntime.pipeline.geometry import Draft
from axforge.axruntime.pipeline.scratch import FRAMES
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
        geometry = draft.geometry.scaled(new_width / width, new_height / height)
        if not (self.letterbox and self.width and self.height):
            return draft.resized(self._scaled(image, new_width, new_height, None), geometry)
        left = 0 if self.position == "top-left" else round((self.width - new_width) / 2 - 0.1)
        top = 0 if self.position == "top-left" else round((self.height - new_height) / 2 - 0.1)
        shape = (self.height, self.width, *image.shape[2:])
        box = FRAMES.take(shape) if image.dtype == np.uint8 else np.empty(shape, image.dtype)
        box[:top], box[top + new_height :] = self.pad_value, self.pad_value
        rows = box[top : top + new_height]
        rows[:, :left], rows[:, left + new_width :] = self.pad_value, self.pad_value
        self._scaled(image, new_width, new_height, rows[:, left : left + new_width])
        boxed = draft.resized(box, geometry.shifted(left, top))
        return msgspec.structs.replace(boxed, inner=(top, left, new_height, new_width), pad=self.pad_value)

    def _scaled(self, image: Array, width: int, height: int, out: Array | None) -> Array:
        """The picture at another size, written into `out` where that is given."""
        if self.antialias:
            scaled = self._averaged(image, width, height)
        elif (width, height) == (image.shape[1], image.shape[0]):
            scaled = image
        else:
            scaled = cv2.resize(image, (width, height), dst=out, interpolation=getattr(cv2, _CV2[self.interpolation]))
        if out is not None and not np.may_share_memory(scaled, out):
            out[...] = scaled.reshape(out.shape)
        return scaled

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


#: Names of OpenCV's constants.
_CV2 = {"nearest": "INTER_NEAREST", "bilinear": "INTER_LINEAR", "bicubic": "INTER_CUBIC", "area": "INTER_AREA"}
