"""How tensors of any rank are shared between cores and cut into tiles."""

from collections.abc import Iterator, Sequence

import numpy as np

from axforge.axcompiler.tile.context import TileContext
from axforge.axcompiler.tile.tiles import Range, Ring, pieces, shares
from axforge.axcompiler.tile.views import View


def physical(view: View) -> tuple[int, ...]:
    """Axes from the longest stride to the shortest: the order of the tensor's elements in memory."""
    return tuple(sorted(range(len(view.shape)), key=lambda a: (-view.strides[a], a)))


def cut_tiles(shape: Sequence[int], limit: int) -> list[tuple[Range, ...]]:
    """A box of this shape in parts of at most `limit` elements: leading axes one by one, one axis in pieces, the rest whole."""
    inner, axis = 1, len(shape)
    while axis > 0 and inner * shape[axis - 1] <= limit:
        axis -= 1
        inner *= shape[axis]
    full: list[list[Range]] = [[(0, d)] for d in shape]
    if axis > 0:
        full[axis - 1] = pieces((0, shape[axis - 1]), max(1, limit // inner))
        for a in range(axis - 1):
            full[a] = [(i, i + 1) for i in range(shape[a])]
    out: list[tuple[Range, ...]] = [()]
    for ranges in full:
        out = [(*head, r) for head in out for r in ranges]
    return out


def share_axis(shape: Sequence[int], cores: int) -> int:
    """The first axis that is long enough for every core to have a part; else the longest."""
    for axis, size in enumerate(shape):
        if size >= cores:
            return axis
    return int(np.argmax(shape)) if shape else 0


def box_of(view: View, box: Sequence[Range]) -> View:
    """The part of `view` inside `box`."""
    for axis, (a, b) in enumerate(box):
        view = view.cut(axis, a, b - a)
    return view


def parts_of(views: list[View], cores: int) -> list[list[View]]:
    """The views (of one shape) of each core."""
    if not views[0].shape:
        return [views]
    axis = share_axis(views[0].shape, cores)
    return [[v.cut(axis, a, b - a) for v in views] for a, b in shares(views[0].shape[axis], cores)]


def shared_leading(out: View, source: View, cores: int) -> list[tuple[View, View]]:
    """Each core's part of `out` and of `source` along one of their axes but the last."""
    if len(out.shape) < 2:
        return [(out, source)]
    axis = share_axis(out.shape[:-1], cores)
    return [(out.cut(axis, a, b - a), source.cut(axis, a, b - a)) for a, b in shares(out.shape[axis], cores)]


def ordered_tile(ctx: TileContext, core: int, ring: Ring, part: View) -> View:
    """A copy of `part` in L1, laid out in `part`'s own memory order, seen in `part`'s axis order."""
    order = physical(part)
    tile = ring.next(tuple(part.shape[a] for a in order))
    ctx.emitter.copy(core, tile, part.permute(order))
    return tile.permute(tuple(order.index(a) for a in range(len(order))))


def whole_rows(ctx: TileContext, core: int, out: View, source: View) -> Iterator[tuple[View, View]]:
    """(result, operand) in L1 for each tile of one core's `out` and `source`; every tile holds whole rows of the last axis.

    The caller computes a result before it asks for the next tile, which first copies the result to `out`.
    """
    em, depth = ctx.emitter, source.shape[-1]
    limit = (em.l1_free(core) - 512) // (2 * depth)
    if limit < 1:
        raise em.no_fit(em.l1_capacity - em.l1_free(core) + 2 * depth + 512)
    limit = min(limit, max(1, out.size // depth))
    tiles, results = Ring(em, core, limit * depth, False), Ring(em, core, limit * depth, False)
    for box in cut_tiles(out.shape[:-1], limit):
        tile = ordered_tile(ctx, core, tiles, box_of(source, box))
        target = box_of(out, box)
        order = physical(target)
        result = results.next(tuple(target.shape[a] for a in order)).permute(tuple(order.index(a) for a in range(len(order))))
        yield result, tile
        em.copy(core, target, result)
