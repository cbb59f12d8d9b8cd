"""Weights as lists of windows: products of unsigned bytes that are added in 16 bits, exactly.

`vpmaddubsw` adds the products of bytes 0 and 1 of four in one 16-bit lane, and of bytes 2 and 3 in the next. With activations of 0 to 255,
a sum of products stays within int16 for every input if its positive weights sum up to at most 128 (255 * 128 = 32640) and so do the
negative ones. A window is a run of products of one output channel for which this holds in both lanes. Products that alone break the bound
are taken as two, of bytes 0 and 2 and of bytes 1 and 3, each of which keeps it (|weight| <= 128).
"""

from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axruntime.engines.host.codegen.kernels.panel import CHANNELS, WINDOWS

#: 255 * MOST fits int16
MOST = 128
#: five numbers of 12 bits in one uint64: positive and negative weights of both lanes, and a share of MOST for each product
_FIELD = 12
_SHARE = np.uint64(MOST // max(WINDOWS)) << np.uint64(4 * _FIELD)
#: a window that has room for nothing
_FULL = np.uint64(sum(MOST << (_FIELD * i) for i in range(5)))
_ROOM = np.uint64(sum((2047 - MOST) << (_FIELD * i) for i in range(5)))
_OVER = np.uint64(sum(2048 << (_FIELD * i) for i in range(5)))


class Windows(msgspec.Struct, frozen=True):
    """entries: int32 [products, 2], place and four weights, in the order block of channels, part, channel, size, window; starts: int64
    [blocks], byte offset of each block's; counts: int32 [blocks, parts, CHANNELS, WINDOWS], the number of windows of each size."""

    entries: NDArray[np.int32]
    starts: NDArray[np.int64]
    counts: NDArray[np.int32]


@cache
def _lane_loads() -> NDArray[np.uint64]:
    """By the two bytes of a lane as uint16: the sum of its positive weights, and of its negative ones without their sign."""
    pairs = np.arange(1 << 16, dtype=np.uint16).view(np.int8).reshape(-1, 2).astype(np.int64)
    positive, negative = np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1)
    return (positive | negative << _FIELD).astype(np.uint64)


def _loads(rows: NDArray[np.int8]) -> NDArray[np.uint64]:
    """rows [M, D, 4] -> [M, D]: what each product takes of a window."""
    lanes = np.ascontiguousarray(rows).view(np.uint16)
    table = _lane_loads()
    loads = table.take(lanes[..., 1])
    loads <<= np.uint64(2 * _FIELD)
    loads |= table.take(lanes[..., 0])
    loads |= _SHARE
    return loads


def _breaks(loads: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether the bound is broken."""
    return np.not_equal((loads + _ROOM) & _OVER, 0)


def count_entries(rows: NDArray[np.int8]) -> int:
    """The number of entries that `windows` makes of weights [M, D, 4]."""
    return int(rows.shape[0] * rows.shape[1] + np.count_nonzero(_breaks(_loads(rows))))


def windows(rows: NDArray[np.int8], places: NDArray[np.int32], parts: int = 1) -> Windows:
    """The windows of weights [M, D, 4], whose product d is with the bytes at places[d] of the panel.

    The products are in `parts` parts of neighbours, and a window is in that of its first product.
    """
    count, depth, _ = rows.shape
    blocks = -(-count // CHANNELS)
    weights = np.ascontiguousarray(rows).view(np.int32).reshape(-1)
    firsts, singles = _windows(rows, weights)
    groups = [_group(first, depth, parts) for first in firsts]
    counts = np.stack([np.bincount(group, minlength=blocks * parts * CHANNELS) for group in groups], axis=1)
    ends = np.cumsum(counts * np.array(WINDOWS)).reshape(counts.shape)
    begins = ends - counts * np.array(WINDOWS)
    entries = np.empty((int(ends[-1, -1]), 2), np.int32)
    for j, (size, first, group) in enumerate(zip(WINDOWS, firsts, groups, strict=True)):
        # the windows of a group are neighbours; as many are before them as the groups before it have
        order = np.argsort(group, kind="stable") if parts > 1 else slice(None)
        first, group = first[order], group[order]
        to = (begins[:, j] - size * (np.cumsum(counts[:, j]) - counts[:, j]))[group] + size * np.arange(len(group))
        for i in range(size):
            entries[to + i, 0] = places[(first + i) % depth]
            entries[to + i, 1] = singles[order] if size == 1 else weights[first + i]
    starts = np.ascontiguousarray(8 * begins.reshape(blocks, -1)[:, 0])
    return Windows(entries, starts, counts.reshape(blocks, parts, CHANNELS, -1).astype(np.int32))


def _group(first: NDArray[np.intp], depth: int, parts: int) -> NDArray[np.intp]:
    """Block, part and channel of windows as one number; first: their first products, counted through all channels."""
    channel, product = np.divmod(first, depth)
    return (channel // CHANNELS * parts + product * parts // depth) * CHANNELS + channel % CHANNELS


def _windows(rows: NDArray[np.int8], weights: NDArray[np.int32]) -> tuple[list[NDArray[np.intp]], NDArray[np.int32]]:
    """The windows of each size by their first products, counted through all channels, and the weights of those of one product."""
    loads = _loads(rows)
    alone = _breaks(loads)
    loads[alone] = _FULL
    ends = np.append(np.flatnonzero(_opens(loads)), loads.size)
    starts, lengths = ends[:-1], np.diff(ends)
    firsts = [starts[lengths == size] for size in WINDOWS]
    single = firsts[WINDOWS.index(1)]
    halved = alone.reshape(-1)[single]
    single = np.repeat(single, 1 + halved)
    # of a product that breaks the bound alone: bytes 0 and 2, then 1 and 3
    mask = np.full(len(single), -1, np.int32)
    at = np.flatnonzero(halved) + np.arange(np.count_nonzero(halved))
    mask[at], mask[at + 1] = 0x00FF00FF, ~0x00FF00FF
    firsts[WINDOWS.index(1)] = single
    return firsts, weights[single] & mask


def _opens(loads: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """[M, D]: which products begin a window. A window is closed when the next product does not fit."""
    needs = np.ascontiguousarray(loads.T)
    opens = np.empty(needs.shape, np.bool_)
    opens[:1] = True
    now = needs[0]
    for need, begins in zip(needs[1:], opens[1:], strict=True):
        total = now + need
        np.not_equal((total + _ROOM) & _OVER, 0, out=begins)
        now = np.where(begins, need, total)
    return np.ascontiguousarray(opens.T)
