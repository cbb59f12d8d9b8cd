"""Dense products: fully connected layers, and products of two activations."""

import math
from collections.abc import Sequence

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.program import Kind
from axforge.axcompiler.strides import dense
from axforge.axcompiler.tile.context import Parameters, TileContext, lowers, output, wrap32
from axforge.axcompiler.tile.parts import box_of, cut_tiles, shared_leading
from axforge.axcompiler.tile.tiles import Range, Ring, pieces, shares
from axforge.axcompiler.tile.views import View


@lowers(ir.FullyConnected)
def lower_fully_connected(ctx: TileContext, op: ir.FullyConnected) -> None:
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
    works = shared_leading(y, x, em.cores) if by_pixels else [(y, x)] * len(shares(m, em.cores, 64))
    columns = [(0, m)] * len(works) if by_pixels else shares(m, em.cores, 64)
    for core, ((dst, src), part) in enumerate(zip(works, columns, strict=True)):
        params = Parameters.load(ctx, core, block, op.epilogue, m, m)
        _dense_core(ctx, core, params, dst, src, matrix, part)


def _dense_core(ctx: TileContext, core: int, params: Parameters, y: View, x: View, matrix: View, columns: Range) -> None:
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
                em.op(core, Opcode.LOADW, a=w, zero=0)
                em.op(core, Opcode.MVM, acc, flat.cut(1, lo, hi - lo), axes=1, zero=0, accumulate=i > 0)
            out = outs.next((*shape, b - a))
            row = params.per_channel(ctx, (pixels, b - a), a)
            em.op(core, Opcode.REQUANT, dense(out.buffer, (pixels, b - a)), acc, epilogue=row)
            em.copy(core, box_of(y, box).cut(len(lead), a, b - a), out)


#: products of two 9-bit differences that float32 sums exactly: 256 * 255 * 255 < 2**24
ACTIVATION_DEPTH = 256


@lowers(ir.MatMul)
def lower_matmul(ctx: TileContext, op: ir.MatMul) -> None:
    """a [.., I, K] @ b [.., K, J]: each product of the leading axes by itself, b in the array; or all of it transposed."""
    em, y = ctx.emitter, ctx.view(output(op))
    lead = y.shape[:-2]
    a, b = (ctx.view(n) for n in op.inputs)
    a, b = a.broadcast((*lead, *a.shape[-2:])), b.broadcast((*lead, *b.shape[-2:]))
    zeros = (ctx.zero(op.inputs[0]), ctx.zero(op.inputs[1]))
    if _scattered(_transposed(b), _transposed(a), _transposed(y)) < _scattered(a, b, y):
        a, b, y, zeros = _transposed(b), _transposed(a), _transposed(y), (zeros[1], zeros[0])
    block = Parameters.pack(ctx, op.epilogue, None, np.full(1, op.multiplier, np.float32))
    jobs = list(np.ndindex(*lead))
    if len(jobs) >= em.cores:
        works = [(jobs[s:e], (0, y.shape[-2])) for s, e in shares(len(jobs), em.cores)]
    else:
        works = [(jobs, r) for r in shares(y.shape[-2], em.cores)]
    for core, (indices, rows) in enumerate(works):
        params = Parameters.load(ctx, core, block, op.epilogue, 0, 1)
        product = _Product(ctx, core, params, zeros, rows, a.shape[-1], y.shape[-1])
        for index in indices:
            product.run(*(_index(v, index) for v in (y, a, b)))


def _transposed(view: View) -> View:
    """The last two axes exchanged."""
    rank = len(view.shape)
    return view.permute((*range(rank - 2), rank - 1, rank - 2))


def _scattered(*views: View) -> int:
    """Elements that would be copied one by one, because a row of theirs is not in one piece in memory."""
    return sum(view.size for view in views if view.strides[-1] != 1)


def _index(view: View, index: Sequence[int]) -> View:
    for i in index:
        view = view.cut(0, i, 1).drop(0)
    return view


class _Product:
    """One core's share of the rows of many products of two matrices."""

    def __init__(self, ctx: TileContext, core: int, params: Parameters, zeros: tuple[int, int], rows: Range, k: int, j: int) -> None:
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
                    em.op(self.core, Opcode.LOADW, a=w, zero=self.zeros[1])
                    part = tile.cut(1, k0, k1 - k0)
                    em.op(self.core, Opcode.MVM, acc, part, axes=1, zero=self.zeros[0], accumulate=i > 0)
                out = self.outs.next((hi - lo, c1 - c0))
                assert self.params.multiplier
                row = self.params.row(self.ctx, None, self.params.multiplier.insert(0, 1).broadcast(out.shape))
                em.op(self.core, Opcode.REQUANT, out, acc, epilogue=row)
                em.copy(self.core, y.cut(0, lo, hi - lo).cut(1, c0, c1 - c0), out)
