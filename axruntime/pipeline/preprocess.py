"""Pre-processing: from a picture (uint8 RGB [H, W, 3], or any array of a dataset) to what the network takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline import steps
from axforge.axruntime.pipeline.steps import PreStep

Array = NDArray[Any]

_CV2 = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}
_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Geometry:
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
        return replace(self, scale_x=self.scale_x * x, scale_y=self.scale_y * y, offset_x=self.offset_x * x, offset_y=self.offset_y * y)

    def shifted(self, x: float, y: float) -> "Geometry":
        """After the picture moved right by x and down by y pixels."""
        return replace(self, offset_x=self.offset_x + x, offset_y=self.offset_y + y)

    def to_source(self, boxes: Array) -> Array:
        """Boxes (left, top, right, bottom) of the network's picture in the source's pixels, float64, clipped to it."""
        scale = np.array([self.scale_x, self.scale_y] * 2)
        offset = np.array([self.offset_x, self.offset_y] * 2)
        mapped = (np.asarray(boxes, np.float64).reshape(-1, 4) - offset) / scale
        return np.clip(mapped, 0, np.array([self.width, self.height] * 2))


@dataclass(frozen=True)
class Prepared:
    """What a picture became: the network's input, the picture as last resized or cropped, and the way back to the source."""

    tensor: Array
    picture: Array
    geometry: Geometry


def prepare(chain: Sequence[PreStep], image: Array) -> Prepared:
    """Run the steps of `chain` on `image`. The tensor is float32, NCHW unless a layout step says otherwise.

    image: uint8 [H, W, 3] RGB; a dataset's own array ([H, W] or [H, W, C]) of any type where the steps allow it.
    Raises AxforgeError where a step cannot take what it is given.
    """
    value, picture, layout = image, image, "NCHW"
    geometry = Geometry(width=image.shape[1], height=image.shape[0])
    for step in chain:
        match step:
            case steps.Layout():
                layout = step.to
            case steps.Normalize():
                value = _normalize(step, value)
            case steps.ConvertColor():
                value = _convert_color(step, value)
            case steps.CenterCrop():
                value, geometry = _center_crop(step, value, geometry)
                picture = value
            case steps.Resize():
                value, geometry = _resize(step, value, geometry)
                picture = value
    return Prepared(_to_tensor(value, layout), picture, geometry)


def _resize(step: steps.Resize, image: Array, geometry: Geometry) -> tuple[Array, Geometry]:
    height, width = image.shape[:2]
    new_width, new_height = _new_size(step, width, height)
    if step.antialias:
        if image.dtype != np.uint8:
            raise AxforgeError(f"resize with antialias takes 8-bit pictures, this is {image.dtype}")
        image = np.asarray(Image.fromarray(image).resize((new_width, new_height), _PILLOW[step.interpolation]))
    elif (new_width, new_height) != (width, height):
        image = cv2.resize(image, (new_width, new_height), interpolation=_CV2[step.interpolation])
    geometry = geometry.scaled(new_width / width, new_height / height)
    if step.letterbox and step.width and step.height:
        return _pad(step, step.width, step.height, image, geometry)
    return image, geometry


def _new_size(step: steps.Resize, width: int, height: int) -> tuple[int, int]:
    """Width and height after the resize, without letterbox bars."""
    if step.size is not None:
        factor = step.size / min(width, height)
        return max(step.size, round(width * factor)), max(step.size, round(height * factor))
    box_width, box_height = step.width or width, step.height or height
    if not step.letterbox:
        return box_width, box_height
    factor = min(box_width / width, box_height / height)
    # the networks that want the picture top-left were trained with sizes rounded down
    whole = int if step.position == "top-left" else round
    return max(1, whole(width * factor)), max(1, whole(height * factor))


def _pad(step: steps.Resize, box_width: int, box_height: int, image: Array, geometry: Geometry) -> tuple[Array, Geometry]:
    height, width = image.shape[:2]
    left = 0 if step.position == "top-left" else round((box_width - width) / 2 - 0.1)
    top = 0 if step.position == "top-left" else round((box_height - height) / 2 - 0.1)
    padded = np.full((box_height, box_width, *image.shape[2:]), step.pad_value, image.dtype)
    padded[top : top + height, left : left + width] = image
    return padded, geometry.shifted(left, top)


def _center_crop(step: steps.CenterCrop, image: Array, geometry: Geometry) -> tuple[Array, Geometry]:
    height, width = image.shape[:2]
    if height < step.height or width < step.width:
        what = f"a crop of {step.width}x{step.height} does not fit into a picture of {width}x{height}"
        raise AxforgeError(what, where="preprocessing: centercrop", fix="Put a resize step before it.")
    left, top = round((width - step.width) / 2), round((height - step.height) / 2)
    return image[top : top + step.height, left : left + step.width], geometry.shifted(-left, -top)


def _convert_color(step: steps.ConvertColor, image: Array) -> Array:
    if image.ndim != 3 or image.shape[2] != 3:
        what = f"colours cannot be converted in an array of shape {list(image.shape)}"
        raise AxforgeError(what, where="preprocessing: convert_color", fix="It takes RGB pictures.")
    match step.to:
        case "RGB":
            return image
        case "BGR":
            return image[:, :, ::-1]
        case "GRAY":
            return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def _normalize(step: steps.Normalize, value: Array) -> Array:
    mean, std = np.asarray(step.mean, np.float32), np.asarray(step.std, np.float32)
    channels = value.shape[2] if value.ndim == 3 else 1
    for name, numbers in (("mean", mean), ("std", std)):
        if numbers.ndim and numbers.size not in (1, channels):
            what = f"{numbers.size} numbers are given for a picture of {channels} channels"
            raise AxforgeError(what, where=f"preprocessing: normalize.{name}")
    if value.dtype == np.uint8 and value.ndim <= 3 and channels <= 4:  # of 256 possible values each is computed once, and looked up
        codes = np.arange(256, dtype=np.float32)[:, np.newaxis, np.newaxis].repeat(channels, axis=2)
        return cv2.LUT(np.ascontiguousarray(value), _standardize(step, codes, mean, std)).reshape(value.shape)
    return _standardize(step, value.astype(np.float32), mean, std)


def _standardize(step: steps.Normalize, value: Array, mean: Array, std: Array) -> Array:
    return (value / np.float32(step.divisor) - mean) / std


def _to_tensor(value: Array, layout: str) -> Array:
    value = value.astype(np.float32, copy=False)
    if value.ndim == 2:
        value = value[:, :, np.newaxis]
    return np.ascontiguousarray(value[np.newaxis] if layout == "NHWC" else value.transpose(2, 0, 1)[np.newaxis])
