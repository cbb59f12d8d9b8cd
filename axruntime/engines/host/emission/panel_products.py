"""Steps of matrix products by windows of 16-bit sums: which pixels share a tile, and what of the image its panel holds."""

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.numerics import Array
from axforge.axruntime.engines.host.codegen.kernels.panel import (
    CHANNELS,
    MOST_VECTORS,
    PANEL_BYTES,
    PART_BYTES,
    WINDOWS,
    PanelParams,
    PanelSpec,
)
from axforge.axruntime.engines.host.codegen.params import Ref, TableRef
from axforge.axruntime.engines.host.emission.emitter import Emitter, ref
from axforge.axruntime.engines.host.emission.product import CHUNK_BYTES, Product, Window, finish_of
from axforge.axruntime.engines.host.emission.weights import matrix, padded, shifted_bias
from axforge.axruntime.engines.host.emission.windows import count_entries, windows

#: fewer pixels leave most of the vectors empty
_FEWEST_PIXELS = 16
#: items of work that two or more threads may share evenly
_ITEMS = 4


class _Region(msgspec.Struct, frozen=True):
    """offset: of its bytes from a pixel's, in the image; shifts: (rows, columns) of whole output pixels at which a tap reads it."""

    offset: int
    shifts: tuple[tuple[int, int], ...]


class _Shape(msgspec.Struct, frozen=True):
    """What panels hold. pitch: pixels from one output row to the next; depth: products of four bytes of a pixel and region; taps: region
    and shift of each tap in the order of `rows`; rows: weights [M, products, 4]."""

    regions: tuple[_Region, ...]
    pitch: int
    depth: int
    taps: tuple[tuple[int, tuple[int, int]], ...]
    rows: NDArray[np.int8]


class _PanelTiles(msgspec.Struct, frozen=True):
    """Tiles of `vectors` vectors along an image; pixels: of each region's panel; bases: byte at which it begins; size: bytes of all."""

    count: int
    vectors: int
    pixels: tuple[int, ...]
    bases: tuple[int, ...]
    size: int


def panel_product(m: Emitter, name: str, p: Product) -> bool:
    """Adds the step of one matrix product; says whether it did.

    It does not for too few pixels, for an image too large for offsets of int32, and where the panel would be too large.
    """
    _, _, oh, ow = p.y.shape
    if oh * ow < _FEWEST_PIXELS or not _addressable(p):
        return False
    best = min(_candidates(p), key=_cycles, default=None)
    if best is None:
        return False
    shape, tiles = best
    places = _places(shape, tiles)
    epilogue = m.epilogue(p.epilogue)
    parts = -(-tiles.size // PART_BYTES)
    lists, starts, counts = _lists(m, shape.rows, places, parts)
    sources, regions = _sources(m, p, shape, tiles)
    blocks = -(-len(shape.rows) // CHANNELS)
    params: PanelParams[Ref, int, np.float32] = PanelParams(
        spec=PanelSpec(tiles.vectors, shape.depth if shape.depth < 8 else 0, parts == 1, finish_of(p.epilogue, p.multiplier)),
        x=p.x,
        sources=sources,
        regions=regions,
        nregions=len(shape.regions),
        depth=shape.depth,
        y=ref(p.y),
        targets=_targets(m, p, shape, tiles),
        images=p.y.shape[0],
        tiles=tiles.count,
        in_ns=p.in_ns,
        out_ns=p.y.strides[0],
        lists=lists,
        starts=starts,
        counts=counts,
        parts=parts,
        bias=m.consts.add(padded(shifted_bias(p.bias, p.weight, p.zero_byte), CHANNELS)),
        mult=m.consts.add(padded(p.multiplier, CHANNELS)),
        nblocks=blocks,
        chunk=_chunk(blocks, lists.ranges[0][1], p.y.shape[0] * tiles.count),
        oc=len(shape.rows),
        epilogue=epilogue,
    )
    m.step(name, params, p.macs)
    return True


def _addressable(p: Product) -> bool:
    """Whether the offsets of an image's pixels fit int32, in which the tables hold them."""
    rows = 0 if p.window is None else p.window.kernel[0] * p.window.dilations[0] * p.window.row
    return max(p.y.shape[2] * p.in_rs + rows + max(p.seg.offsets), p.y.shape[2] * p.y.strides[2]) < 1 << 31


def _chunk(blocks: int, size: int, tiles: int) -> int:
    """Blocks of channels that are used together: their weights stay in the second-level cache, and threads get equal shares."""
    parts = max(-(-size // CHUNK_BYTES) if tiles > 1 else 1, -(-_ITEMS // tiles))
    return max(1, blocks // parts)


def _candidates(p: Product) -> Iterator[tuple[_Shape, _PanelTiles]]:
    """The ways to lay the panels out for which they are small enough."""
    _, _, oh, ow = p.y.shape
    w = p.window
    if w is None or w.kernel == (1, 1) or p.weight.shape[1] < 4:
        shapes = [_by_runs(p)]
    else:
        shapes = [_by_residues(p, w, columns=False)] + [_by_residues(p, w, columns=True)] * (w.kernel[1] > 1)
    for shape in shapes:
        for vectors in range(2, MOST_VECTORS + 1):
            tiles = _tiles(shape, oh, ow, vectors)
            if tiles.size <= PANEL_BYTES:
                yield shape, tiles


def _cycles(candidate: tuple[_Shape, _PanelTiles]) -> float:
    """About what an image takes: packing eight times four bytes of eight pixels 35 cycles, adding a product to a vector 0.9."""
    s, t = candidate
    packing = sum(t.pixels) // 8 * -(-s.depth // 8) * 35
    return t.count * (packing + s.rows.size // 4 * (t.vectors + 0.35) * 0.9)


def _by_runs(p: Product) -> _Shape:
    """One region for each run of bytes."""
    rows = matrix(p.weight, p.seg, 4)
    depth = rows.shape[1] // 4 // len(p.seg.offsets)
    regions = tuple(_Region(offset, ((0, 0),)) for offset in p.seg.offsets)
    taps = tuple((i, (0, 0)) for i in range(len(regions)))
    return _Shape(regions, p.y.shape[3], depth, taps, rows.reshape(len(rows), -1, 4))


def _by_residues(p: Product, w: Window, columns: bool) -> _Shape:
    """Regions by the residues of taps modulo whole output pixels. columns: each column of the kernel has regions of its own, so that no
    pixels are between the rows of the panel, at the price of packing each of them."""
    count, channels = p.weight.shape[:2]
    residues: dict[int, list[tuple[int, int]]] = {}
    order = []
    for i in range(w.kernel[0]):
        for j in range(w.kernel[1]):
            (down, a), (right, b) = divmod(i * w.dilations[0], w.strides[0]), divmod(j * w.dilations[1], w.strides[1])
            if columns:
                right, b = 0, j * w.dilations[1]
            offset = a * w.row + b * w.pixel
            residues.setdefault(offset, []).append((down, right))
            order.append((offset, (down, right)))
    names = list(residues)
    widest = max(right for _, (_, right) in order)
    depth = -(-channels // 4)
    full = np.zeros((count, len(order), 4 * depth), np.int8)
    full[..., :channels] = p.weight.transpose(0, 2, 3, 1).reshape(count, len(order), channels)
    return _Shape(
        tuple(_Region(offset, tuple(shifts)) for offset, shifts in residues.items()),
        p.y.shape[3] + widest,
        depth,
        tuple((names.index(offset), shift) for offset, shift in order),
        full.reshape(count, -1, 4),
    )


def _tiles(s: _Shape, oh: int, ow: int, most: int) -> _PanelTiles:
    """Tiles of at most `most` vectors along output pixels and those between rows."""
    length = (oh - 1) * s.pitch + ow
    count = -(-length // (8 * most))
    vectors = -(-length // (8 * count))
    pixels = tuple(-(-(8 * vectors + max(_distance(s, shift) for shift in r.shifts)) // 8) * 8 for r in s.regions)
    sizes = [4 * s.depth * n for n in pixels]
    return _PanelTiles(count, vectors, pixels, tuple(sum(sizes[:i]) for i in range(len(sizes))), sum(sizes))


def _distance(s: _Shape, shift: tuple[int, int]) -> int:
    """Pixels of the panel from a pixel to that of a tap."""
    return shift[0] * s.pitch + shift[1]


def _places(s: _Shape, t: _PanelTiles) -> NDArray[np.int32]:
    """The byte of the panel at which each product of the first pixel is."""
    places = [t.bases[r] + 4 * (t.pixels[r] * np.arange(s.depth) + _distance(s, shift)) for r, shift in s.taps]
    return np.concatenate(places).astype(np.int32)


def _lists(m: Emitter, rows: NDArray[np.int8], places: NDArray[np.int32], parts: int) -> tuple[TableRef, Ref, Ref]:
    """The windows of all channels, where those of each block begin and how many there are. They are made when constants are written."""
    size = 8 * count_entries(rows)
    made: list[Array] = []

    def entries() -> Array:
        # neighbours in the panel together, so that a part of the products is a part of the panel
        order = np.argsort(places, kind="stable")
        found = windows(rows[:, order], places[order], parts)
        made.extend([found.counts, found.starts])
        return found.entries

    blocks = -(-len(rows) // CHANNELS)
    lists = m.consts.later(size, entries)
    starts = m.consts.later(8 * blocks, lambda: made.pop())
    counts = m.consts.later(4 * len(WINDOWS) * CHANNELS * parts * blocks, lambda: made.pop())
    return TableRef("", lists.offset, ((0, size),)), starts, counts


def _sources(m: Emitter, p: Product, s: _Shape, t: _PanelTiles) -> tuple[TableRef, TableRef]:
    """Where every pixel of the panels is in the image; pixels that no output uses are the nearest used ones."""
    _, _, oh, ow = p.y.shape
    parts: list[NDArray[np.int64]] = []
    starts = [0]
    for region, pixels in zip(s.regions, t.pixels, strict=True):
        flat = np.arange((t.count - 1) * 8 * t.vectors + pixels)
        row = np.minimum(flat // s.pitch, oh - 1 + max(down for down, _ in region.shifts))
        column = np.minimum(flat % s.pitch, ow - 1 + max(right for _, right in region.shifts))
        parts.append(region.offset + row * p.in_rs + column * p.in_ps)
        starts.append(starts[-1] + 4 * len(flat))
    regions = np.array(list(zip(starts[:-1], t.bases, t.pixels, starts[1:], strict=True)), np.int64)
    return m.consts.add_offsets(np.concatenate(parts), np.int32), m.consts.add_offsets(regions)


def _targets(m: Emitter, p: Product, s: _Shape, t: _PanelTiles) -> TableRef:
    """Where every output pixel goes, -1 for those between rows."""
    _, _, oh, ow = p.y.shape
    flat = np.arange(t.count * 8 * t.vectors)
    row, column = flat // s.pitch, flat % s.pitch
    at = row * p.y.strides[2] + column * p.y.strides[3]
    return m.consts.add_offsets(np.where((row < oh) & (column < ow), at, -1), np.int32)
