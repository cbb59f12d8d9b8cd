"""NumPy, OpenCV and Pillow, loaded when they are first used.

A step of a pipeline is one module with its parameters and its arithmetic. Commands that only read model.json need the parameters and not
the arithmetic, and must start without these libraries. So modules below `pipeline/preprocessing`, `pipeline/postprocessing` and `results`
write `from axforge.axruntime.lazy import Array, np` where they would import NumPy.
"""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["Array", "Image", "ImageDraw", "ImageFont", "cv2", "np"]


class _Deferred:
    """A module that is imported when its first attribute is read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        value = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, value)  # found without this method from now on
        return value


if TYPE_CHECKING:
    import cv2
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image, ImageDraw, ImageFont

    Array = NDArray[Any]
else:
    np, cv2 = _Deferred("numpy"), _Deferred("cv2")
    Image, ImageDraw, ImageFont = (_Deferred(f"PIL.{name}") for name in ("Image", "ImageDraw", "ImageFont"))
    Array = object
