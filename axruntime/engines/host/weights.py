"""Weights as the convolution kernels read them: packed once, at load, or taken from the cache of packed weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axruntime.engines.host.features import Isa


@dataclass(frozen=True)
class Segments:
    """How a pixel's bytes lie in the input: `offsets` (bytes from tap 0) of runs of `length` bytes; `taps_per_run` taps each."""

    offsets: tuple[int, ...]
    length: int
    taps: int


def segments(kernel: tuple[int, int], dilations: tuple[int, int], channels: int, row: int, pixel: int) -> Segments:
    """One run a kernel row where the taps of a row lie next to each other, else one a tap."""
    (kh, kw), (dh, dw) = kernel, dilations
    if kw == 1 or (dw == 1 and pixel == channels):
        return Segments(tuple(i * dh * row for i in range(kh)), kw * channels, kw)
    return Segments(tuple(i * dh * row + j * dw * pixel for i in range(kh) for j in range(kw)), channels, 1)


def depth(seg: Segments, group: int) -> int:
    """Products of one output as packed: every run is filled up to whole groups."""
    return len(seg.offsets) * -(-seg.length // group) * group


def matrix(weight: NDArray[np.int8], seg: Segments, group: int) -> NDArray[np.int8]:
    """weight [M, C, KH, KW] -> [M, K] in the order in which a pixel's bytes are read; runs are filled up with zeros to whole groups."""
    m = weight.shape[0]
    runs = weight.transpose(0, 2, 3, 1).reshape(m, len(seg.offsets), seg.length)
    out = np.zeros((m, len(seg.offsets), depth(seg, group) // len(seg.offsets)), np.int8)
    out[:, :, : seg.length] = runs
    return out.reshape(m, -1)


def packed_bytes(m: int, k: int, block: int, isa: Isa) -> int:
    """Size of what `pack` gives."""
    return -(-m // block) * block * k * (2 if isa.dot == "pair" else 1)


def pack(rows: NDArray[np.int8], block: int, isa: Isa) -> NDArray[Any]:
    """rows [M, K], K a multiple of isa.group -> [blocks, K / g, block, g] with g products of a channel together.

    amx: [blocks, K / 64, block / 16, 16, 16, 4], one tile after the other. pair: int16.
    """
    m, k = rows.shape
    full = np.zeros((-(-m // block) * block, k), np.int8)
    full[:m] = rows
    if isa.dot == "amx":
        tiles = full.reshape(-1, block // 16, 16, k // 64, 16, 4)
        return np.ascontiguousarray(tiles.transpose(0, 3, 1, 4, 2, 5))
    packed = full.reshape(-1, block, k // isa.group, isa.group).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(packed, np.int16 if isa.dot == "pair" else np.int8)


def padded(values: NDArray[Any], block: int) -> NDArray[Any]:
    """Per-channel values, filled up with zeros to whole blocks."""
    out = np.zeros(-(-len(values) // block) * block, values.dtype)
    out[: len(values)] = values
    return out


def shifted_bias(bias: NDArray[np.int32], weight: NDArray[np.int8], zero_point: int) -> NDArray[np.int32]:
    """Bias for products with bytes (code + 128): bias - (zero_point + 128) * sum of weights [M, ...], modulo 2**32 as all int32 sums."""
    total = weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int64) * (zero_point + 128)
    return (bias.astype(np.int64) - total).astype(np.int32)
