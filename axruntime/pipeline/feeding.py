"""From a picture to the codes of the network's quantized input, without a float32 tensor between.

After the steps that work on bytes (resize, crop, colours), normalization and quantization are one function of a byte for each channel.
It is computed once for the 256 bytes, by the steps themselves and the definition of quantization, so the codes are those of the long way.
The codes of a frame are then looked up and written into the network's buffer at once.
"""

from collections.abc import Sequence

import numpy as np

from axforge.axcompiler.numerics import quantize
from axforge.axruntime.lazy import Array, cv2
from axforge.axruntime.pipeline import chain
from axforge.axruntime.pipeline.geometry import Draft, Prepared
from axforge.axruntime.pipeline.preprocessing.layout import InputLayout
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.scratch import FRAMES
from axforge.axruntime.pipeline.step import PreStep

#: Channels of a picture whose bytes are looked up; more go the long way.
_CHANNELS = 4
_SIGN = np.uint8(0x80)


class CodeFeeder:
    """The pre-processing `steps` of a network whose input has this scale and zero point."""

    def __init__(self, steps: Sequence[PreStep], scale: float, zero_point: int) -> None:
        self._whole, self._scale, self._zero_point = tuple(steps), scale, zero_point
        self._layouts = [step for step in steps if isinstance(step, InputLayout)]
        ordered = [step for step in steps if not isinstance(step, InputLayout)]
        count = next((i for i, step in enumerate(ordered) if isinstance(step, Normalize)), len(ordered))
        self._steps, self._values = ordered[:count], ordered[count:]
        self._fits = all(isinstance(step, Normalize) for step in self._values)
        self._tables: dict[int, Array] = {}

    def __call__(self, image: Array) -> Prepared:
        """As `chain.prepare`; the tensor is int8 where the steps before normalization give bytes, and float32 else."""
        if not self._fits or image.dtype != np.uint8:
            return chain.prepare(self._whole, image)
        draft = chain.begin(image)
        for step in (*self._layouts, *self._steps):
            draft = step(draft)
        channels = draft.value.shape[2] if draft.value.ndim == 3 else 1
        if draft.value.dtype != np.uint8 or draft.value.ndim not in (2, 3) or channels > _CHANNELS:
            for step in self._values:
                draft = step(draft)
            return chain.prepared(draft)
        if channels not in self._tables:
            self._tables[channels] = self._table(channels)
        return Prepared(self._codes(draft, self._tables[channels]), draft.picture, draft.geometry, draft.source)

    def _table(self, channels: int) -> Array:
        """The code of each byte, as uint8 [256, channels] of the same bits. Raises AxforgeError where a step does not fit the channels."""
        ramp = np.arange(256, dtype=np.uint8)[:, np.newaxis, np.newaxis].repeat(channels, axis=2)
        draft = chain.begin(ramp)
        for step in self._values:
            draft = step(draft)
        return quantize(draft.value.reshape(256, channels), self._scale, self._zero_point).view(np.uint8)

    def _codes(self, draft: Draft, table: Array) -> Array:
        value = draft.value if draft.value.ndim == 3 else draft.value[:, :, np.newaxis]
        height, width, channels = value.shape
        top, left, inner_height, inner_width = draft.inner or (0, 0, height, width)
        rows, columns = slice(top, top + inner_height), slice(left, left + inner_width)
        last = draft.layout == "NHWC"
        codes = FRAMES.take((height, width, channels) if last else (channels, height, width))
        planes = codes.transpose(2, 0, 1) if last else codes
        if draft.inner is not None:
            _fill_around(planes, rows, columns, table[draft.pad])
        if last:
            _interleaved(value[rows, columns], table, codes[rows, columns])
        else:
            _planar(value[rows, columns], table, codes[:, rows, columns])
        return codes[np.newaxis].view(np.int8)


def _fill_around(planes: Array, rows: slice, columns: slice, code: Array) -> None:
    """Give the pixels around a rectangle the code of their channel."""
    for plane, value in zip(planes, code, strict=True):
        plane[: rows.start] = value
        plane[rows.stop :] = value
        plane[rows, : columns.start] = value
        plane[rows, columns.stop :] = value


def _shifts(table: Array) -> bool:
    """Whether a code is its byte less 128, as of networks for which a step of a byte is a step of the scale: much faster than a look-up."""
    return bool((table == (np.arange(256, dtype=np.uint8) ^ _SIGN)[:, np.newaxis]).all())


def _interleaved(value: Array, table: Array, out: Array) -> None:
    """out[..., c] = table[value[..., c], c] for `value` and `out` [height, width, channels]."""
    if _shifts(table):
        np.bitwise_xor(value, _SIGN, out=out)
    else:
        out[...] = cv2.LUT(np.ascontiguousarray(value), np.ascontiguousarray(table[:, np.newaxis])).reshape(value.shape)


def _planar(value: Array, table: Array, planes: Array) -> None:
    """planes[c] = table[value[..., c], c] for `value` [height, width, channels] and `planes` [channels, height, width]."""
    if value.strides[2] < 0:  # colours that were turned round without moving a byte
        value, table, planes = value[:, :, ::-1], table[:, ::-1], planes[::-1]
    shifts = _shifts(table)
    if shifts:  # before the channels are split, which writes past the caches
        value = np.bitwise_xor(value, _SIGN, out=FRAMES.take(value.shape))
    if len(planes) == 1:
        planes[0] = value[:, :, 0]
    else:
        cv2.split(value, list(planes))
    for plane, codes in zip(planes, table.T, strict=True) if not shifts else ():
        cv2.LUT(plane, np.ascontiguousarray(codes), dst=plane)
