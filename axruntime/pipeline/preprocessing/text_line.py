"""Bringing a line of text to the size that a recognizer takes."""

import math
from typing import Annotated

import msgspec
from msgspec import Meta

from axforge.axruntime.lazy import cv2, np
from axforge.axruntime.pipeline.geometry import Draft
from axforge.axruntime.pipeline.step import PreStep, Size, register


@register
class TextLine(PreStep, frozen=True, tag="text_line"):
    """A line of text at `height`, its proportions kept, with `pad_value` to its right up to `width`.

    A longer line is squeezed into `width`, as recognizers of text are trained: its height is never less.
    """

    width: Size
    height: Size
    pad_value: Annotated[int, Meta(ge=0, le=255)] = 127

    def __call__(self, draft: Draft) -> Draft:
        image = draft.value
        height, width = image.shape[:2]
        wide = min(self.width, max(1, math.ceil(self.height * width / height)))
        box = np.full((self.height, self.width, *image.shape[2:]), self.pad_value, image.dtype)
        box[:, :wide] = cv2.resize(image, (wide, self.height), interpolation=cv2.INTER_LINEAR).reshape(self.height, wide, *image.shape[2:])
        lined = draft.resized(box, draft.geometry.scaled(wide / width, self.height / height))
        return msgspec.structs.replace(lined, inner=(0, 0, self.height, wide), pad=self.pad_value)
