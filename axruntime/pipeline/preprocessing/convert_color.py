"""Changing the order or the number of colour channels."""

from typing import Literal

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, cv2, np
from axforge.axruntime.pipeline.geometry import Draft
from axforge.axruntime.pipeline.step import PreStep, register


@register
class ConvertColor(PreStep, frozen=True, tag="convert_color"):
    """From RGB, which every source gives, to another order or to the one channel of luminance (GRAY: Y of JPEG's YCbCr)."""

    to: Literal["RGB", "BGR", "GRAY"]

    def __call__(self, draft: Draft) -> Draft:
        image = draft.value
        if image.ndim != 3 or image.shape[2] != 3:
            what = f"colours cannot be converted in an array of shape {list(image.shape)}"
            raise AxforgeError(what, where="preprocessing: convert_color", fix="It takes RGB pictures.")
        return draft.with_value(self._converted(image))

    def _converted(self, image: Array) -> Array:
        match self.to:
            case "RGB":
                return image
            case "BGR":
                return image[:, :, ::-1]
            case "GRAY":
                return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
