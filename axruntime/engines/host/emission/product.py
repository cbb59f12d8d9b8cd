"""Convolutions and matrix products over images, before a kernel is chosen for them."""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.ir import Epilogue
from axforge.axruntime.engines.host.codegen.epilogue import Finish
from axforge.axruntime.engines.host.codegen.params import Ref
from axforge.axruntime.engines.host.emission.emitter import Emitter
from axforge.axruntime.engines.host.emission.layout import View
from axforge.axruntime.engines.host.emission.weights import Segments, depth, matrix, pack, packed_bytes, padded, shifted_bias

#: weights of one chunk of channels stay in the second-level cache while the pixels pass
CHUNK_BYTES = 768 << 10


class Convolution(msgspec.Struct, frozen=True):
    """x: the operand, with its padding around it and channels next to each other; y: the result. pads: of x, above and to the left.

    weight: [M, C / groups, KH, KW]; bias, multiplier: [M]; zero_byte: the byte of x that is 0.0.
    """

    x: View
    y: View
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.float32]
    zero_byte: int
    epilogue: Epilogue
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    groups: int = 1

    @property
    def first(self) -> Ref:
        """Address of tap 0 of output pixel 0."""
        _, _, row, pixel = self.x.strides
        return Ref(self.x.buffer, self.x.offset - self.pads[0] * row - self.pads[1] * pixel)

    @property
    def distances(self) -> tuple[int, int, int]:
        """Distances of output images, rows and pixels in the operand, in bytes."""
        image, _, row, pixel = self.x.strides
        return image, self.strides[0] * row, self.strides[1] * pixel

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.y.shape[0] * math.prod(self.y.shape[2:]) * self.weight.size


class Window(msgspec.Struct, frozen=True):
    """The window of an output pixel in the image, whose rows are `row` bytes apart and pixels `pixel` bytes."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    row: int
    pixel: int


class Product(msgspec.Struct, frozen=True):
    """x: address of tap 0 of output pixel 0; in_*: distances of output images, rows and pixels in the input, in bytes.

    y: the result, with channels next to each other. weight: [M, C, KH, KW]; bias, multiplier: [M]; zero_byte: the byte of x that is 0.0.
    window: if each output pixel has one of several taps.
    """

    x: Ref
    in_ns: int
    in_rs: int
    in_ps: int
    y: View
    seg: Segments
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.float32]
    zero_byte: int
    epilogue: Epilogue
    window: Window | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.y.shape[0] * math.prod(self.y.shape[2:]) * self.weight.size


def runs(p: Product) -> tuple[int, int, int]:
    """(images, rows, pixels) with rows merged into one where both sides are contiguous."""
    n, _, oh, ow = p.y.shape
    if p.in_rs == ow * p.in_ps and p.y.strides[2] == ow * p.y.strides[3]:
        oh, ow = 1, oh * ow
        if p.in_ns == ow * p.in_ps and p.y.strides[0] == ow * p.y.strides[3]:
            n, ow = 1, n * ow
    return n, oh, ow


class PackedWeights(msgspec.Struct, frozen=True):
    """Weights, bias and multipliers of a product in `blocks` blocks of channels, each of `step` bytes and `groups` groups in each segment.

    chunk: blocks that are used together.
    """

    weight: Ref
    bias: Ref
    multiplier: Ref
    blocks: int
    step: int
    groups: int
    chunk: int


def packed_weights(m: Emitter, p: Product, seg: Segments, block: int) -> PackedWeights:
    """The weights of a product, packed for blocks of `block` channels."""
    isa, count = m.isa, p.weight.shape[0]
    k = depth(seg, isa.group)
    blocks, size = -(-count // block), packed_bytes(count, k, block, isa)
    step = size // blocks
    chunk = max(1, min(blocks, CHUNK_BYTES // step))
    if size > p.macs // p.weight.size * p.in_ps:
        # more weights than pixels: two threads read half of the weights each rather than all of them
        chunk = min(chunk, -(-blocks // 2))
    return PackedWeights(
        weight=m.consts.later(size, lambda: pack(matrix(p.weight, seg, isa.group), block, isa, k // len(seg.offsets))),
        bias=m.consts.add(padded(shifted_bias(p.bias, p.weight, p.zero_byte - isa.offset), block)),
        multiplier=m.consts.add(padded(p.multiplier, block)),
        blocks=blocks,
        step=step,
        groups=k // len(seg.offsets) // isa.group,
        chunk=chunk,
    )


def finish_of(e: Epilogue, multiplier: NDArray[np.float32]) -> Finish:
    """A sum is below 2**31, so a product with multipliers below 1 is too."""
    small = bool(np.maximum.reduce(np.abs(multiplier), initial=0.0) < 0.999)
    return Finish(e.table is not None, e.lo > -128 or e.hi < 127, small)
