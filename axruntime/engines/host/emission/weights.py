"""Weights as the convolution kernels read them: packed once, at load."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.numerics import Array
from axforge.axruntime.engines.host.codegen.features import Isa


class Segments(msgspec.Struct, frozen=True):
    """Where a pixel's bytes are in the input: `offsets` (bytes from tap 0) of runs of `taps` taps, which are `pitch` bytes apart and have
    `channels` bytes each. Bytes between them meet zero weights."""

    offsets: tuple[int, ...]
    taps: int
    pitch: int
    channels: int

    @property
    def length(self) -> int:
        """Bytes of a run."""
        return (self.taps - 1) * self.pitch + self.channels


def segments(kernel: tuple[int, int], dilations: tuple[int, int], channels: int, row: int, pixel: int, group: int) -> Segments:
    """Returns one run for each kernel row or one for each tap, whichever takes fewer groups of products."""
    (kh, kw), (dh, dw) = kernel, dilations
    by_row = Segments(tuple([i * dh * row for i in range(kh)]), kw, dw * pixel, channels)
    if kw == 1 or depth(by_row, group) <= kh * kw * -(-channels // group) * group:
        return by_row
    return Segments(tuple([i * dh * row + j * dw * pixel for i in range(kh) for j in range(kw)]), 1, pixel, channels)


def depth(seg: Segments, group: int) -> int:
    """Products of one output as packed: every run is filled up to whole groups."""
    return len(seg.offsets) * -(-seg.length // group) * group


def matrix(weight: NDArray[np.int8], seg: Segments, group: int) -> NDArray[np.int8]:
    """weight [M, C, KH, KW] -> [M, K] in the order in which a pixel's bytes are read; runs are filled up with zeros to whole groups."""
    m, count = weight.shape[0], len(seg.offsets)
    runs = weight.transpose(0, 2, 3, 1).reshape(m, count, seg.taps, seg.channels)
    out = np.zeros((m, count, depth(seg, group) // count), np.int8)
    for tap in range(seg.taps):
        out[:, :, tap * seg.pitch : tap * seg.pitch + seg.channels] = runs[:, :, tap]
    return out.reshape(m, -1)


def packed_bytes(m: int, k: int, block: int, isa: Isa) -> int:
    """Size of what `pack` gives."""
    return -(-m // block) * block * k * (2 if isa.dot == "pair" else 1)


def pack(rows: NDArray[np.int8], block: int, isa: Isa, run: int) -> Array:
    """rows [M, K], K a multiple of isa.group -> [blocks, K / g, block, g] with g products of a channel together.

    amx: [blocks, K / 64, block / 16, 16, 16, 4], one tile after the other. pair: int16 [blocks, K / 4, 2, block, 2], products 0 and 2 of
    a group, then 1 and 3. smull: two groups of a channel together if a run of bytes has an even number of them.
    """
    k = rows.shape[1]
    full = padded(rows, block)
    if isa.dot == "pair":
        groups = full.reshape(-1, block, k // 4, 2, 2)
        return np.ascontiguousarray(groups.transpose(0, 2, 4, 1, 3), np.int16)
    # products that stay together are moved as one number
    together = 4 if isa.dot == "amx" else 2 * isa.group if isa.dot == "smull" and run % (2 * isa.group) == 0 else isa.group
    units = full.view(np.dtype(f"V{together}") if together > 1 else np.int8)
    if isa.dot == "amx":
        tiles = units.reshape(-1, block // 16, 16, k // 64, 16)
        return np.ascontiguousarray(tiles.transpose(0, 3, 1, 4, 2))
    return np.ascontiguousarray(units.reshape(-1, block, units.shape[1]).transpose(0, 2, 1))


def padded(values: Array, block: int) -> Array:
    """Returns per-channel values [M, ...], filled up with zeros to whole blocks of channels; the array itself if there are whole blocks."""
    if len(values) % block == 0:
        return values
    out = np.zeros((-(-len(values) // block) * block, *values.shape[1:]), values.dtype)
    out[: len(values)] = values
    return out


def shifted_bias(bias: NDArray[np.int32], weight: NDArray[np.int8], zero_byte: int) -> NDArray[np.int32]:
    """Bias for products with bytes (code + 128): bias - zero_byte * sum of weights [M, ...], modulo 2**32 as all int32 sums."""
    return bias - weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int32) * np.int32(zero_byte)
