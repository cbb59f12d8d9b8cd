"""Weights as lists of windows: products of unsigned bytes that are added in 16 bits, exactly.

`vpmaddubsw` adds the products of bytes 0 and 1 of four in one 16-bit lane, and of bytes 2 and 3 in the next. With activations of 0 to 255,
a sum of products stays within int16 for every input if its positive weights sum up to at most 128 (255 * 128 = 32640) and so do the
negative ones. A window is a run of products of one output channel for which this holds in both lanes. Products that alone break the bound
are taken as two, of bytes 0 and 2 and of bytes 1 and 3, each of which keeps it (|weight| <= 128).
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axruntime.engines.host.codegen.kernels.panel import CHANNELS, WINDOWS

#: 255 * MOST fits int16
MOST = 128
_LONGEST = max(WINDOWS)
#: five numbers of 12 bits in one uint64: positive and negative weights of both lanes, and a share of MOST for each product
_FIELD = 12
_SHARE = np.uint64(MOST // _LONGEST) << np.uint64(4 * _FIELD)
_ROOM = np.uint64(sum((2047 - MOST) << (_FIELD * i) for i in range(5)))
_OVER = np.uint64(sum(2048 << (_FIELD * i) for i in range(5)))


class Windows(msgspec.Struct, frozen=True):
    """entries: int32 [products, 2], place and four weights, in the order block of channels, part, channel, size, window; starts: int64
    [blocks], byte offset of each block's; counts: int32 [blocks, parts, CHANNELS, WINDOWS], the number of windows of each size."""

    entries: NDArray[np.int32]
    starts: NDArray[np.int64]
    counts: NDArray[np.int32]


def _loads(rows: NDArray[np.int8]) -> NDArray[np.int16]:
    """rows [M, D, 4] -> [M, D, 4]: sums of positive weights of both lanes, then of negative ones without their sign."""
    wide = rows.astype(np.int16).reshape(*rows.shape[:2], 2, 2)
    positive = np.maximum(wide, 0)
    up = positive[..., 0] + positive[..., 1]
    return np.concatenate([up, up - wide[..., 0] - wide[..., 1]], axis=-1)


def count_entries(rows: NDArray[np.int8]) -> int:
    """The number of entries that `windows` makes of weights [M, D, 4]."""
    return int(rows.shape[0] * rows.shape[1] + np.count_nonzero(_breaks(_loads(rows))))


def _breaks(loads: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Which products break the bound alone."""
    out: NDArray[np.bool_] = loads.max(axis=-1) > MOST
    return out


def windows(rows: NDArray[np.int8], places: NDArray[np.int32], parts: int = 1) -> Windows:
    """The windows of weights [M, D, 4], whose product d is with the bytes at places[d] of the panel.

    The products are in `parts` parts of neighbours, and a window is in that of its first product.
    """
    count, depth, _ = rows.shape
    loads = _loads(rows)
    alone = _breaks(loads)
    number = _window_numbers(loads, alone)
    kept = ~alone
    weights = np.ascontiguousarray(rows).view(np.int32)[..., 0]
    whole = np.stack([np.broadcast_to(places, (count, depth))[kept], weights[kept]], axis=1)
    channel, product = np.nonzero(kept)
    # where another window or another channel begins
    starts = np.flatnonzero(np.diff(channel * np.int64(depth + 1) + number[kept], prepend=-1))
    sizes = np.diff(starts, append=len(whole))
    halves, half_channel, half_product = _halves(rows, places, alone)
    entries = np.concatenate([whole, halves])
    starts = np.concatenate([starts, np.arange(len(whole), len(entries))])
    sizes = np.concatenate([sizes, np.ones(len(halves), sizes.dtype)])
    channel = np.concatenate([channel[starts[: len(starts) - len(halves)]], half_channel])
    part = np.concatenate([product[starts[: len(starts) - len(halves)]], half_product]) * parts // max(depth, 1)
    blocks = -(-count // CHANNELS)
    place = ((channel // CHANNELS * parts + part) * CHANNELS + channel % CHANNELS) * len(WINDOWS) + (WINDOWS[0] - sizes)
    order = np.argsort(place, kind="stable")
    counts = np.bincount(place, minlength=blocks * parts * CHANNELS * len(WINDOWS)).reshape(blocks, parts, CHANNELS, len(WINDOWS))
    of_block = (counts * np.array(WINDOWS)).sum(axis=(1, 2, 3))
    sizes, starts = sizes[order], starts[order]
    ends = np.cumsum(sizes)
    taken = np.repeat(starts - ends + sizes, sizes) + np.arange(len(entries))
    return Windows(entries[taken], 8 * (np.cumsum(of_block) - of_block), counts.astype(np.int32))


def _window_numbers(loads: NDArray[np.int16], alone: NDArray[np.bool_]) -> NDArray[np.int32]:
    """[M, D]: which window of its channel each product is in. A window is closed when the next product does not fit."""
    packed = np.full(alone.shape, _SHARE)
    for i in range(4):
        packed += loads[..., i].astype(np.uint64) << np.uint64(_FIELD * i)
    packed[alone] = 0
    needs = np.ascontiguousarray(packed.T)
    opens = np.zeros(needs.shape, np.bool_)
    now = np.zeros(len(alone), np.uint64)
    for need, begins in zip(needs, opens, strict=True):
        total = now + need
        np.not_equal((total + _ROOM) & _OVER, 0, out=begins)
        now = np.where(begins, need, total)
    return np.cumsum(opens, axis=0, dtype=np.int32).T


def _halves(
    rows: NDArray[np.int8], places: NDArray[np.int32], alone: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.intp], NDArray[np.intp]]:
    """Two windows of one product for each product that breaks the bound alone: entries, channels, products."""
    channel, product = np.nonzero(alone)
    four = np.repeat(rows[alone][:, None], 2, axis=1)
    four[:, 0, 1::2] = 0
    four[:, 1, 0::2] = 0
    entries = np.stack([np.repeat(places[product], 2), np.ascontiguousarray(four).reshape(-1, 4).view(np.int32)[:, 0]], axis=1)
    return entries, np.repeat(channel, 2), np.repeat(product, 2)
