"""Reading and writing pictures."""

import io
import re
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from axforge.axcompiler.container import write_atomic
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, Image.DecompressionBombError)


def read_image(path: Path) -> NDArray[np.uint8]:
    """The picture at `path`: uint8 RGB [H, W, 3], turned upright by its EXIF orientation.

    Strict: a truncated file is an error, not a picture with a grey end. Raises AxforgeError.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as e:  # ValueError: a NUL in the path
        reason = e.strerror if isinstance(e, OSError) else e
        raise AxforgeError(f"the picture cannot be read: {reason}", where=str(path)[:200], fix="Check the path.") from e
    return decode_image(data, str(path))


def decode_image(data: bytes, where: str, *, most: int | None = None) -> NDArray[np.uint8]:
    """As `read_image`, from bytes. most: pixels of a picture that is decoded at all; None: as many as Pillow allows."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if most is not None and image.width * image.height > most:
                what = f"the picture is too large: it has {image.width} x {image.height} pixels, and at most {most:,} are decoded"
                raise AxforgeError(what, where=where, fix="Make it smaller, or cut it into tiles.")
            return pixels_of(image, where)
    except _DAMAGED as e:
        raise _undecodable(e, where) from e


def pixels_of(image: Image.Image, where: str) -> NDArray[np.uint8]:
    """A Pillow image as `read_image` gives it. Raises AxforgeError when its pixels cannot be decoded."""
    try:
        image.load()
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except _DAMAGED as e:
        raise _undecodable(e, where) from e


def _undecodable(error: Exception, where: str) -> AxforgeError:
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\d{6,}", str(error))
        size = f"{int(pixels[0]) / 1e6:,.0f} million pixels" if pixels else str(error)
        most = f"{2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:,.0f} million"
        what = f"the picture is too large: it has {size}, and at most {most} are decoded"
        return AxforgeError(what, where=where, fix="Make it smaller, or cut it into tiles.")
    reason = "its format is unknown" if isinstance(error, UnidentifiedImageError) else str(error)
    return AxforgeError(f"the picture is damaged or not a picture: {reason}", where=where, fix="Replace or remove the file.")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits to 255 instead of scaling them
        return Image.fromarray((np.asarray(image, np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def write_image(path: Path, image: Array) -> None:
    """Write a uint8 RGB picture, atomically, in the format that the file name's end says. Raises AxforgeError."""
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        fix = f"Use one of: {', '.join(sorted(_FORMATS))}."
        raise AxforgeError(f"pictures cannot be written as '{path.suffix}'", where=str(path), fix=fix)
    buffer = io.BytesIO()
    # level 1 of PNG is four times as fast as Pillow's default and a few per cent larger
    options = {"quality": 92} if kind in ("JPEG", "WEBP") else {"compress_level": 1} if kind == "PNG" else {}
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, kind, **options)
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as e:
        raise AxforgeError(
            f"the picture cannot be written: {e.strerror}", where=str(path), fix="Check the folder and the space on the disk."
        ) from e
