"""Bringing pixel values to the range that the network was trained with."""

from typing import Annotated

from msgspec import Meta

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, cv2, np
from axforge.axruntime.pipeline.geometry import Draft
from axforge.axruntime.pipeline.step import PerChannel, PreStep, register


@register
class Normalize(PreStep, frozen=True, tag="normalize"):
    """(x / divisor - mean) / std, in float32; `mean` and `std` are one number, or one for each channel."""

    mean: PerChannel = 0.0
    std: PerChannel = 1.0
    divisor: Annotated[float, Meta(gt=0)] = 255.0

    def __post_init__(self) -> None:
        if 0 in (self.std if isinstance(self.std, tuple) else (self.std,)):
            raise ValueError("`std` must not be 0")

    def __call__(self, draft: Draft) -> Draft:
        value = draft.value
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        channels = value.shape[2] if value.ndim == 3 else 1
        for name, numbers in (("mean", mean), ("std", std)):
            if numbers.ndim and numbers.size not in (1, channels):
                what = f"{numbers.size} numbers are given for a picture of {channels} channels"
                raise AxforgeError(what, where=f"preprocessing: normalize.{name}")
        if value.dtype != np.uint8 or value.ndim > 3 or channels > 4:
            return draft.with_value(self._standardized(value.astype(np.float32), mean, std))
        # of 256 possible values each is computed once, and looked up
        codes = np.arange(256, dtype=np.float32)[:, np.newaxis, np.newaxis].repeat(channels, axis=2)
        table = self._standardized(codes, mean, std)
        return draft.with_value(cv2.LUT(np.ascontiguousarray(value), table).reshape(value.shape))

    def _standardized(self, value: Array, mean: Array, std: Array) -> Array:
        return (value / np.float32(self.divisor) - mean) / std
