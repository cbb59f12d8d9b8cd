"""What a program may hand over as a picture, made into the one form that pipelines take."""

from pathlib import Path

import numpy as np

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array

#: Above that many pixels Pillow takes a file for an attack; an array is held to the same.
MAX_PIXELS = 178_956_970
FORMS = "a path, a Pillow image, or a NumPy array uint8 [height, width, 3] (RGB) or [height, width] (grey)"


def picture_of(value: object, *, features: bool = False) -> Array:
    """`value` as uint8 RGB [H, W, 3].

    value: one of FORMS. features: the network takes arrays that are not pictures (spectrograms, say), which stay as they are.
    Raises AxforgeError for anything else: each mistake has its sentence.
    """
    if isinstance(value, str | Path):
        from axforge.axruntime.media.images import read_image  # Pillow, which arrays do not need

        if not str(value):
            raise AxforgeError("the path of the picture is empty", fix=f"A picture is {FORMS}.")
        return read_image(Path(value))
    if type(value).__module__.partition(".")[0] == "PIL":
        return _checked(_of_pillow(value))
    if not isinstance(value, np.ndarray):
        what = "None" if value is None else f"a value of type {type(value).__name__}"
        fix = "Call the model once for each picture." if isinstance(value, list | tuple) else f"A picture is {FORMS}."
        raise AxforgeError(f"{what} is not a picture", fix=fix)
    if features and value.size and not (value.ndim == 3 and value.shape[2] in (3, 4)):
        return value
    return _checked(_of_array(value))


def _of_pillow(value: object) -> Array:
    from PIL import Image

    from axforge.axruntime.media.images import pixels_of

    if not isinstance(value, Image.Image):
        raise AxforgeError(f"a value of type {type(value).__name__} is not a picture", fix=f"A picture is {FORMS}.")
    _of_size(value.height, value.width)
    return pixels_of(value, "the picture")


def _of_array(value: Array) -> Array:
    if value.ndim == 3 and value.shape[2] == 1:
        value = value[:, :, 0]
    if value.ndim not in (2, 3) or (value.ndim == 3 and value.shape[2] != 3):
        if value.ndim == 3 and value.shape[2] == 4:
            fix = "Leave the fourth channel out: picture[:, :, :3]."
        elif value.ndim == 3 and value.shape[0] in (1, 3):
            fix = "Put the channels last: picture.transpose(1, 2, 0)."
        elif value.ndim == 4:
            fix = "Call the model once for each picture of a batch; model.run() takes the network's own arrays."
        else:
            fix = f"A picture is {FORMS}."
        raise AxforgeError(f"an array of shape {list(value.shape)} is not a picture", fix=fix)
    _of_size(*value.shape[:2])
    if value.dtype.kind not in "fiu":
        raise AxforgeError(f"an array of {value.dtype} is not a picture", fix=f"A picture is {FORMS}.")
    if value.dtype != np.uint8:
        scaled = value.dtype.kind == "f" and not (value > 1).any()
        factor = "(picture * 255)" if scaled else "picture"
        fix = f"Pixels are uint8, 0 to 255: {factor}.round().astype('uint8'). model.run() takes the network's own arrays."
        raise AxforgeError(
            f"an array of {value.dtype} is not a picture", fix=fix if value.dtype.kind in "fiu" else f"A picture is {FORMS}."
        )
    return value[:, :, np.newaxis].repeat(3, axis=2) if value.ndim == 2 else value


def _of_size(height: int, width: int) -> None:
    if not height * width:
        raise AxforgeError(f"the picture is empty: it has {width} x {height} pixels", fix="Check where it comes from.")
    if height * width > MAX_PIXELS:
        what = f"the picture is too large: {width} x {height} pixels, and {MAX_PIXELS:,} are the most"
        raise AxforgeError(what, fix="Make it smaller, or cut it into tiles.")


def _checked(picture: Array) -> Array:
    return np.ascontiguousarray(picture)
