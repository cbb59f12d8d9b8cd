"""Operators on the vector unit that go element by element, or along one axis, and the products of two activations."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from axcompiler import ir
from axcompiler.program import ACCUMULATE, Kind, Opcode
from axcompiler.tile.context import Context, Parameters, nhwc, output, wrap32
from axcompiler.tile.emit import float_bits
from axcompiler.tile.tiles import Range, Ring, largest, pieces, shares
from axcompiler.tile.views import View, coalesce, dense


def physical(view: View) -> tuple[int, ...]:
    """Axes from the longest stride to the shortest: the order in which the tensor lies in memory."""
    return tuple(sorted(range(len(view.shape)), key=lambda a: (-view.strides[a], a)))


def cut_tiles(shape: Sequence[int], limit: int, span: Range | None = None) -> list[tuple[Range, ...]]:
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
    if span is not None and full:
        full[0] = [(span[0] + a, span[0] + b) for a, b in full[0]]
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


def lower_pointwise(ctx: Context, op: ir.Add | ir.Mul) -> None:
    """a and b broadcast to the result; tiles in the result's memory order."""
    em, out = ctx.emitter, ctx.view(output(op))
    order = physical(out)
    a, b = (ctx.view(n).broadcast(out.shape) for n in op.inputs)
    views = coalesce([v.permute(order) for v in (out, a, b)])
    zeros = tuple(ctx.zero(n) for n in op.inputs)
    if isinstance(op, ir.Add):
        opcode, imm = Opcode.ADD, (*zeros, float_bits(op.multipliers[0]), float_bits(op.multipliers[1]))
    else:
        opcode, imm = Opcode.MUL, (*zeros, float_bits(op.multiplier), 0)
    block = Parameters.pack(ctx, op.epilogue, None, None)
    for core, (y, *operands) in enumerate(parts_of(views, em.cores)):
        params = Parameters.load(ctx, core, block, op.epilogue, 0, 0)
        row = params.row(ctx, None, None)
        limit = em.l1_free(core) // 6 - 64
        if limit < 1:
            raise em.no_fit(em.l1_capacity)
        rings = [Ring(em, core, limit, True) for _ in range(3)]
        for box in cut_tiles(y.shape, limit):
            tiles = []
            for ring, view in zip(rings[1:], operands, strict=True):
                part = box_of(view, box)
                slim = replace(part, shape=tuple(1 if s == 0 else d for d, s in zip(part.shape, part.strides, strict=True)))
                tile = ring.next(slim.shape)
                em.copy(core, tile, slim)
                tiles.append(tile.broadcast(part.shape))
            result = rings[0].next(tuple(e - s for s, e in box))
            codes, left, right = coalesce([result, *tiles])
            em.op(core, opcode, codes, left, right, imm=imm, epilogue=row)
            em.copy(core, box_of(y, box), result)


def table_copy(ctx: Context, out: View, a: View, table: str, users: int = 1) -> None:
    """out = table[a + 128], through L1, shared by all cores. users: how many such copies have to share what is free of L1."""
    em, order = ctx.emitter, physical(out)
    block = em.constant(ctx.const(table))
    for core, (y, x) in enumerate(parts_of(coalesce([out.permute(order), a.permute(order)]), em.cores)):
        entries = em.load(core, block)
        limit = em.l1_free(core) // users // 4 - 128
        if limit < 1:
            raise em.no_fit(em.l1_capacity)
        sources, results = Ring(em, core, limit, True), Ring(em, core, limit, True)
        for box in cut_tiles(y.shape, limit):
            shape = tuple(e - s for s, e in box)
            tile, result = sources.next(shape), results.next(shape)
            em.copy(core, tile, box_of(x, box))
            codes, source = coalesce([result, tile])
            em.op(core, Opcode.TABLE, codes, source, entries)
            em.copy(core, box_of(y, box), result)


def lower_table(ctx: Context, op: ir.Table) -> None:
    """A table over a whole tensor."""
    table_copy(ctx, ctx.view(output(op)), ctx.view(op.inputs[0]), op.table)


# ---------------------------------------------------------------- along axes


def lower_reduce(ctx: Context, op: ir.ReduceSum | ir.ReduceMax) -> None:
    """Tiles over the axes that stay; each holds all it reduces."""
    em, x, y = ctx.emitter, ctx.view(op.inputs[0]), ctx.view(output(op))
    if op.keepdims:
        for axis in sorted(op.axes, reverse=True):
            y = y.drop(axis)
    order = physical(x)
    kept, gone = [a for a in order if a not in op.axes], [a for a in order if a in op.axes]
    logical = [a for a in range(len(x.shape)) if a not in op.axes]
    out = y.permute([logical.index(a) for a in kept])
    source = x.permute((*kept, *gone))
    depth = math.prod(source.shape[len(kept) :])
    total = isinstance(op, ir.ReduceSum)
    params_block = _reduce_parameters(ctx, op, depth) if isinstance(op, ir.ReduceSum) else None
    for core, parts in enumerate(_shared(out, source, em.cores)):
        params = Parameters.load(ctx, core, params_block, op.epilogue, 1, 1) if isinstance(op, ir.ReduceSum) else None
        limit = (em.l1_free(core) - 512) // (depth + 5)
        if limit < 1:
            raise em.no_fit(em.l1_capacity - em.l1_free(core) + depth + 512)
        limit = min(limit, parts[0].size)
        tiles, results = Ring(em, core, limit * depth, False), Ring(em, core, limit, False)
        sums = Ring(em, core, limit, False, Kind.INT32) if total else None
        for box in cut_tiles(parts[0].shape, limit):
            part = box_of(parts[1], box)
            tile = _ordered_tile(ctx, core, tiles, part)
            result = results.next(tuple(e - s for s, e in box))
            if sums and params and params.bias and params.multiplier:
                acc = sums.next(result.shape)
                em.op(core, Opcode.REDUCE, acc, tile, imm=(len(kept), 0))
                row = params.row(ctx, params.bias.broadcast((result.size,)), params.multiplier.broadcast((result.size,)))
                flat = dense(acc.buffer, (result.size,), Kind.INT32)
                em.op(core, Opcode.REQUANT, dense(result.buffer, (result.size,)), flat, epilogue=row)
            else:
                em.op(core, Opcode.REDUCE, result, tile, imm=(len(kept), 1))
            em.copy(core, box_of(parts[0], box), result)


def _reduce_parameters(ctx: Context, op: ir.ReduceSum, depth: int) -> View | None:
    bias = np.full(1, -ctx.zero(op.inputs[0]) * depth, np.int32)
    return Parameters.pack(ctx, op.epilogue, bias, np.full(1, op.multiplier, np.float32))


def _shared(out: View, source: View, cores: int) -> list[tuple[View, View]]:
    """Each core's part of `out` and, on the same leading axes, of `source`."""
    if not out.shape:
        return [(out, source)]
    axis = share_axis(out.shape, cores)
    return [(out.cut(axis, a, b - a), source.cut(axis, a, b - a)) for a, b in shares(out.shape[axis], cores)]


def _ordered_tile(ctx: Context, core: int, ring: Ring, part: View) -> View:
    """A copy of `part` in L1, laid out in `part`'s own memory order, seen in `part`'s axis order."""
    order = physical(part)
    tile = ring.next(tuple(part.shape[a] for a in order))
    ctx.emitter.copy(core, tile, part.permute(order))
    return tile.permute(tuple(order.index(a) for a in range(len(order))))


def lower_softmax(ctx: Context, op: ir.Softmax) -> None:
    """Tiles over the other axes; each holds the whole axis."""
    em, x, y = ctx.emitter, ctx.view(op.inputs[0]), ctx.view(output(op))
    order = [a for a in physical(y) if a != op.axis]
    source, out = x.permute((*order, op.axis)), y.permute((*order, op.axis))
    depth = source.shape[-1]
    exponents = em.constant(ctx.const(op.exponent))
    block = Parameters.pack(ctx, op.epilogue, None, None)
    for core, (dst, src) in enumerate(_shared_leading(out, source, em.cores)):
        table = em.load(core, exponents)
        row = Parameters.load(ctx, core, block, op.epilogue, 0, 0).row(ctx, None, None)
        limit = (em.l1_free(core) - 512) // (2 * depth)
        if limit < 1:
            raise em.no_fit(em.l1_capacity - em.l1_free(core) + 2 * depth + 512)
        limit = min(limit, max(1, dst.size // depth))
        tiles, results = Ring(em, core, limit * depth, False), Ring(em, core, limit * depth, False)
        for box in cut_tiles(dst.shape[:-1], limit):
            tile = _ordered_tile(ctx, core, tiles, box_of(src, box))
            target = box_of(dst, box)
            where = physical(target)
            result = results.next(tuple(target.shape[a] for a in where)).permute(tuple(where.index(a) for a in range(len(where))))
            em.op(core, Opcode.SOFTMAX, result, tile, table, imm=(float_bits(op.multiplier),), epilogue=row)
            em.copy(core, target, result)


def _shared_leading(out: View, source: View, cores: int) -> list[tuple[View, View]]:
    if len(out.shape) < 2:
        return [(out, source)]
    axis = share_axis(out.shape[:-1], cores)
    return [(out.cut(axis, a, b - a), source.cut(axis, a, b - a)) for a, b in shares(out.shape[axis], cores)]


# ---------------------------------------------------------------- dense products


def lower_fully_connected(ctx: Context, op: ir.FullyConnected) -> None:
    """x [P.., K] times [K, M]; P or M is shared between the cores, M and K are cut by the array."""
    em, weight = ctx.emitter, ctx.const(op.weight)
    m, k = weight.shape
    total = weight.astype(np.int64).sum(axis=1)
    bias = wrap32(ctx.const(op.bias).astype(np.int64) - ctx.zero(op.inputs[0]) * total)
    block = Parameters.pack(ctx, op.epilogue, bias, ctx.const(op.multiplier))
    matrix = dense(ctx.weights.add(op.weight, weight, "dense"), (k, m))
    x, y = ctx.view(op.inputs[0]), ctx.view(output(op))
    pixels = math.prod(x.shape[:-1])
    if len(x.shape) == 1:
        x, y = x.insert(0, 1), y.insert(0, 1)
    by_pixels = pixels >= em.cores
    works = _shared_leading(y, x, em.cores) if by_pixels else [(y, x)] * len(shares(m, em.cores, 64))
    columns = [(0, m)] * len(works) if by_pixels else shares(m, em.cores, 64)
    for core, ((dst, src), part) in enumerate(zip(works, columns, strict=True)):
        params = Parameters.load(ctx, core, block, op.epilogue, m, m)
        _dense_core(ctx, core, params, dst, src, matrix, part)


def _dense_core(ctx: Context, core: int, params: Parameters, y: View, x: View, matrix: View, columns: Range) -> None:
    em, array = ctx.emitter, ctx.emitter.target.array
    k, lead = x.shape[-1], x.shape[:-1]
    wide = min(array.columns, columns[1] - columns[0])
    weights = Ring(em, core, min(k, array.rows) * wide, True)
    limit = min((em.l1_free(core) - 1024) // (k + 5 * wide), math.prod(lead))
    if limit < 1:
        raise em.no_fit(em.l1_capacity - em.l1_free(core) + 1024 + k + 5 * wide)
    tiles, outs, sums = (
        Ring(em, core, limit * k, False),
        Ring(em, core, limit * wide, False),
        Ring(em, core, limit * wide, False, Kind.INT32),
    )
    for box in cut_tiles(lead, limit):
        shape = tuple(e - s for s, e in box)
        pixels = math.prod(shape)
        tile = tiles.next((*shape, k))
        em.copy(core, tile, box_of(x, box))
        flat = dense(tile.buffer, (pixels, k))
        for a, b in pieces(columns, array.columns):
            acc = sums.next((pixels, b - a))
            for i, (lo, hi) in enumerate(pieces((0, k), array.rows)):
                w = weights.next((hi - lo, b - a))
                em.copy(core, w, matrix.cut(0, lo, hi - lo).cut(1, a, b - a))
                em.op(core, Opcode.LOADW, a=w)
                em.op(core, Opcode.MVM, acc, flat.cut(1, lo, hi - lo), imm=(1,), flags=ACCUMULATE if i else 0)
            out = outs.next((*shape, b - a))
            row = params.per_channel(ctx, (pixels, b - a), a)
            em.op(core, Opcode.REQUANT, dense(out.buffer, (pixels, b - a)), acc, epilogue=row)
            em.copy(core, box_of(y, box).cut(len(lead), a, b - a), out)


#: products of two 9-bit differences that float32 sums exactly: 256 * 255 * 255 < 2**24
ACTIVATION_DEPTH = 256


def lower_matmul(ctx: Context, op: ir.MatMul) -> None:
    """a [.., I, K] @ b [.., K, J]: each product of the leading axes by itself, b in the array."""
    em, y = ctx.emitter, ctx.view(output(op))
    lead = y.shape[:-2]
    a, b = (ctx.view(n) for n in op.inputs)
    a, b = a.broadcast((*lead, *a.shape[-2:])), b.broadcast((*lead, *b.shape[-2:]))
    block = Parameters.pack(ctx, op.epilogue, None, np.full(1, op.multiplier, np.float32))
    jobs = list(np.ndindex(*lead))
    if len(jobs) >= em.cores:
        works = [(jobs[s:e], (0, y.shape[-2])) for s, e in shares(len(jobs), em.cores)]
    else:
        works = [(jobs, r) for r in shares(y.shape[-2], em.cores)]
    zeros = (ctx.zero(op.inputs[0]), ctx.zero(op.inputs[1]))
    for core, (indices, rows) in enumerate(works):
        params = Parameters.load(ctx, core, block, op.epilogue, 0, 1)
        product = _Product(ctx, core, params, zeros, rows, a.shape[-1], y.shape[-1])
        for index in indices:
            product.run(*(_index(v, index) for v in (y, a, b)))


def _index(view: View, index: Sequence[int]) -> View:
    for i in index:
        view = view.cut(0, i, 1).drop(0)
    return view


class _Product:
    """One core's share of the rows of many products of two matrices."""

    def __init__(self, ctx: Context, core: int, params: Parameters, zeros: tuple[int, int], rows: Range, k: int, j: int) -> None:
        self.ctx, self.core, self.params, self.zeros, self.rows, self.k = ctx, core, params, zeros, rows, k
        em = ctx.emitter
        self.depth, self.wide = min(ACTIVATION_DEPTH, em.target.array.rows, k), min(em.target.array.columns, j)
        self.weights = Ring(em, core, self.depth * self.wide, True)
        room = (em.l1_free(core) - 1024) // (k + 5 * self.wide)
        if room < 1:
            raise em.no_fit(em.l1_capacity - em.l1_free(core) + 1024 + k + 5 * self.wide)
        self.limit = min(room, rows[1] - rows[0])
        self.tiles, self.outs = Ring(em, core, self.limit * k, False), Ring(em, core, self.limit * self.wide, False)
        self.sums = Ring(em, core, self.limit * self.wide, False, Kind.INT32)

    def run(self, y: View, a: View, b: View) -> None:
        """y [I, J] = a [I, K] @ b [K, J], for this core's rows."""
        em = self.ctx.emitter
        for lo, hi in pieces(self.rows, self.limit):
            tile = self.tiles.next((hi - lo, self.k))
            em.copy(self.core, tile, a.cut(0, lo, hi - lo))
            for c0, c1 in pieces((0, y.shape[1]), self.wide):
                acc = self.sums.next((hi - lo, c1 - c0))
                for i, (k0, k1) in enumerate(pieces((0, self.k), self.depth)):
                    w = self.weights.next((k1 - k0, c1 - c0))
                    em.copy(self.core, w, b.cut(0, k0, k1 - k0).cut(1, c0, c1 - c0))
                    em.op(self.core, Opcode.LOADW, a=w, imm=(self.zeros[1],))
                    part = tile.cut(1, k0, k1 - k0)
                    em.op(self.core, Opcode.MVM, acc, part, imm=(1, self.zeros[0]), flags=ACCUMULATE if i else 0)
                out = self.outs.next((hi - lo, c1 - c0))
                assert self.params.multiplier
                row = self.params.row(self.ctx, None, self.params.multiplier.insert(0, 1).broadcast(out.shape))
                em.op(self.core, Opcode.REQUANT, out, acc, epilogue=row)
                em.copy(self.core, y.cut(0, lo, hi - lo).cut(1, c0, c1 - c0), out)


# ---------------------------------------------------------------- bilinear resize


def lower_resize(ctx: Context, op: ir.ResizeLinear) -> None:
    """Rows of the result; each tile has the input rows from the lowest to the highest that it reads."""
    em = ctx.emitter
    x, y = nhwc(ctx.view(op.inputs[0])), nhwc(ctx.view(output(op)))
    n, oh, ow, c = y.shape
    index_h = ctx.const(op.index_h)
    grid = [
        np.concatenate([ctx.const(i), ctx.const(w)]).astype(np.int32) for i, w in ((op.index_h, op.weight_h), (op.index_w, op.weight_w))
    ]
    consts = [em.constant(g) for g in grid]
    block = Parameters.pack(ctx, op.epilogue, None, np.full(1, op.multiplier, np.float32))
    for core, rows in enumerate(shares(oh, em.cores)):
        params = Parameters.load(ctx, core, block, op.epilogue, 0, 1)
        tables = [em.load(core, v) for v in consts]

        def need(count: int, channels: int, rows: Range = rows) -> int:
            spans = [_reach(index_h, r) for r in pieces(rows, count)]
            return max(b - a for a, b in spans) * x.shape[2] * channels + 5 * count * ow * channels + 1024

        free = em.l1_free(core)
        channels = largest(c, lambda m: need(1, m) <= free)
        if not channels:
            raise em.no_fit(em.l1_capacity - free + need(1, 1))
        step = next(s for s in range(rows[1] - rows[0], 0, -1) if need(s, channels) <= free)
        taken = max(b - a for a, b in (_reach(index_h, r) for r in pieces(rows, step)))
        tiles = Ring(em, core, taken * x.shape[2] * channels, False)
        outs, sums = Ring(em, core, step * ow * channels, False), Ring(em, core, step * ow * channels, False, Kind.INT32)
        for i in range(n):
            for m0, m1 in pieces((0, c), channels):
                for lo, hi in pieces(rows, step):
                    first, last = _reach(index_h, (lo, hi))
                    tile = tiles.next((last - first, x.shape[2], m1 - m0))
                    em.copy(core, tile, x.cut(0, i, 1).drop(0).cut(0, first, last - first).cut(2, m0, m1 - m0))
                    acc = sums.next((hi - lo, ow, m1 - m0))
                    em.op(core, Opcode.RESIZE, acc, tile, tables[0].cut(1, lo, hi - lo), tables[1], imm=(ctx.zero(op.inputs[0]), first))
                    out = outs.next(acc.shape)
                    flat = dense(acc.buffer, (acc.size,), Kind.INT32)
                    assert params.multiplier
                    row = params.row(ctx, None, params.multiplier.broadcast((acc.size,)))
                    em.op(core, Opcode.REQUANT, dense(out.buffer, (acc.size,)), flat, epilogue=row)
                    em.copy(core, y.cut(0, i, 1).drop(0).cut(0, lo, hi - lo).cut(2, m0, m1 - m0), out)


def _reach(index: np.ndarray[tuple[int, ...], np.dtype[np.int32]], rows: Range) -> Range:
    """Input rows from the lowest to the highest that these result rows read."""
    part = index[:, rows[0] : rows[1]]
    return int(part.min()), int(part.max()) + 1
