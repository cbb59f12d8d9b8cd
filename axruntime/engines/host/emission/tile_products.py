"""Steps of matrix products in tile registers: which pixels share a tile, and whether their bytes are gathered first."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.engines.host.codegen.kernels.amx import MOST_GATHERED, AmxParams, AmxSpec, Gather
from axforge.axruntime.engines.host.codegen.params import Ref, TableRef
from axforge.axruntime.engines.host.emission.emitter import Emitter, ref
from axforge.axruntime.engines.host.emission.product import Product, finish_of, packed_weights, runs
from axforge.axruntime.engines.host.emission.weights import Segments

#: nanoseconds, measured on a Granite Rapids core; only their ratios matter
_STEP, _STEP_ROW, _LEAST, _FIXED, _COPY = 4.6, 0.29, 2.75, 12.0, 0.4


class _Tiles(msgspec.Struct, frozen=True):
    """Byte offsets [tiles, (input, output)] of tiles of `rows` pixels; pixels: output offset of each of 16 pixels of a tile, -1 for none,
    where they do not follow each other."""

    at: NDArray[np.int64]
    rows: int
    pixels: NDArray[np.int64] | None = None


def tile_product(m: Emitter, name: str, p: Product) -> None:
    """The step of one matrix product."""
    gather = _gather(p)
    # gathered runs follow each other
    seg = Segments((0,), len(p.seg.offsets), p.seg.length, p.seg.length) if gather else p.seg
    across = tiles_across(-(-seg.length // 64) * len(seg.offsets), p.weight.shape[0])
    epilogue = m.epilogue(p.epilogue)
    weights = packed_weights(m, p, seg, 16 * across)
    tiles = _tiles(name, p, weights.groups * len(seg.offsets))
    offsets = [o + 64 * g for o in seg.offsets for g in range(weights.groups)]
    single = across == 2 and len(offsets) == 1
    params: AmxParams[Ref, int, np.float32] = AmxParams(
        spec=AmxSpec(finish_of(p.epilogue, p.multiplier), across, single, tiles.pixels is not None, gather),
        x=p.x,
        w=weights.weight,
        bias=weights.bias,
        mult=weights.multiplier,
        pixels=None if tiles.pixels is None else _pixels(m, tiles.pixels),
        segs=m.consts.add_offsets(np.array(p.seg.offsets if gather else offsets, np.int64)),
        y=ref(p.y),
        cfg=m.consts.add(tile_config(tiles.rows)),
        at=m.consts.add_offsets(tiles.at, np.int32),
        nseg=len(offsets),
        in_ps=p.in_ps,
        out_ps=p.y.strides[3],
        rows=tiles.rows,
        mtiles=len(tiles.at),
        nblocks=weights.blocks,
        chunk=weights.chunk,
        oc=p.weight.shape[0],
        wstep=weights.step,
        epilogue=epilogue,
    )
    m.step(name, params, p.macs)


def _tiles(name: str, p: Product, steps: int) -> _Tiles:
    """Tiles row by row, or over the ends of rows if that costs less."""
    tiles, linear = _row_tiles(p), _linear_tiles(p)
    if linear is not None and _cost(linear, steps) < 0.95 * _cost(tiles, steps):
        tiles = linear
    if max(int(a.max(initial=0)) for a in (tiles.at, tiles.pixels) if a is not None) >= 2**31 - 1:
        raise AxforgeError(f"the operator '{name}' works on an image of more than 2 GiB", fix="Use a smaller input or batch.")
    return tiles


def _pixels(m: Emitter, pixels: NDArray[np.int64]) -> TableRef:
    """The table of output offsets, of which -1 is none."""
    used = pixels[pixels >= 0]
    return TableRef("", m.consts.add(pixels.astype(np.int32)).offset, ((int(used.min()), int(used.max())),))


def tiles_across(steps: int, channels: int) -> int:
    """Channel tiles of a block: one reads weights half as often, which long sums are bound by; two store more at once."""
    return 1 if steps >= 9 or channels <= 16 else 2


def _cost(tiles: _Tiles, steps: int) -> float:
    """Returns the nanoseconds of all pixel tiles with two channel tiles each, for `steps` steps."""
    return len(tiles.at) * (2 * steps * max(_LEAST, _STEP_ROW * tiles.rows) + _FIXED)


def _row_tiles(p: Product) -> _Tiles:
    """Tiles within runs of pixels that follow each other on both sides."""
    images, oh, run = runs(p)
    tiles = -(-run // 16)
    rows = -(-run // tiles)
    start = np.minimum(np.arange(tiles) * rows, run - rows)
    x = np.arange(images)[:, None, None] * p.in_ns + np.arange(oh)[:, None] * p.in_rs + start * p.in_ps
    y = np.arange(images)[:, None, None] * p.y.strides[0] + np.arange(oh)[:, None] * p.y.strides[2] + start * p.y.strides[3]
    return _Tiles(np.stack([x.reshape(-1), y.reshape(-1)], axis=1), rows)


def _linear_tiles(p: Product) -> _Tiles | None:
    """Tiles along the input from its first to its last pixel, over the ends of rows; pixels between rows are computed and not stored."""
    n, _, oh, ow = p.y.shape
    if p.in_ps == 0 or p.in_rs % p.in_ps or p.in_rs // p.in_ps < ow or p.in_rs // p.in_ps > 2 * ow:
        return None
    pitch = p.in_rs // p.in_ps
    length = (oh - 1) * pitch + ow
    tiles = -(-length // 16)
    rows = -(-length // tiles)
    start = np.minimum(np.arange(tiles) * rows, length - rows)
    pixel = start[:, None] + np.arange(16)
    row, col = pixel // pitch, pixel % pitch
    inside = (col < ow) & (np.arange(16) < rows)
    offset = row * p.y.strides[2] + col * p.y.strides[3]
    images = np.arange(n)[:, None]
    x = (images * p.in_ns + start * p.in_ps).reshape(-1)
    y = np.where(inside, images[:, :, None] * p.y.strides[0] + offset, -1)
    at = np.stack([x, np.zeros_like(x)], axis=1).astype(np.int64)
    return _Tiles(at, rows, y.reshape(-1, 16))


def _gather(p: Product) -> Gather | None:
    """Gathering pays where segments are short: every step then has 64 useful bytes, and loads do not cross cache lines."""
    count, length = len(p.seg.offsets), p.seg.length
    row = -(-count * length // 64) * 64
    width = next((w for w in (16, 32, 64) if w >= length), 0)
    gaps = p.seg.taps > 1 and p.seg.pitch != p.seg.channels
    if gaps or not width or row > MOST_GATHERED or count > 16:
        return None
    blocks = -(-p.weight.shape[0] // 32)
    direct = blocks * count * max(4 * _STEP, 2 * (14.0 if p.in_ps < 16 else 6.0 if p.in_ps % 64 else 2.2))
    copied = blocks * (row // 64) * 4 * _STEP + 32 * count * _COPY
    return Gather(count, length, width, row) if copied < direct else None


def tile_config(rows: int) -> NDArray[np.uint8]:
    """Palette 1: accumulators and pixels have `rows` rows, weights 16; every row has 64 bytes."""
    cfg = np.zeros(64, np.uint8)
    cfg[0] = 1
    cfg[16:32:2] = 64
    cfg[48:56] = [rows] * 6 + [16, 16]
    return cfg
