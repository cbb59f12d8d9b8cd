"""Bilinear resize: rows of the result, each tile with the input rows from the lowest to the highest that it reads."""

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.program import Kind
from axforge.axcompiler.strides import dense
from axforge.axcompiler.tile.context import Parameters, TileContext, lowers, nhwc, output
from axforge.axcompiler.tile.tiles import Range, Ring, largest, pieces, shares
from axforge.axcompiler.tile.views import View


@lowers(ir.ResizeLinear)
def lower_resize(ctx: TileContext, op: ir.ResizeLinear) -> None:
    """Bilinear resize; rows are shared by the cores."""
    pairs = ((op.index_h, op.weight_h), (op.index_w, op.weight_w))
    grids = [ctx.emitter.constant(np.concatenate([ctx.const(i), ctx.const(w)]).astype(np.int32)) for i, w in pairs]
    block = Parameters.pack(ctx, op.epilogue, None, np.full(1, op.multiplier, np.float32))
    for core, rows in enumerate(shares(ctx.graph.tensors[output(op)].shape[2], ctx.emitter.cores)):
        params = Parameters.load(ctx, core, block, op.epilogue, 0, 1)
        tables = (ctx.emitter.load(core, grids[0]), ctx.emitter.load(core, grids[1]))
        _ResizeTiles(ctx, op, core, rows, params, tables).run()


class _ResizeTiles:
    """One core's rows of one resize."""

    def __init__(
        self, ctx: TileContext, op: ir.ResizeLinear, core: int, rows: Range, params: Parameters, tables: tuple[View, View]
    ) -> None:
        self.ctx, self.core, self.rows, self.params, self.tables = ctx, core, rows, params, tables
        self.zero, self.index = ctx.zero(op.inputs[0]), ctx.const(op.index_h)
        self.x, self.y = nhwc(ctx.view(op.inputs[0])), nhwc(ctx.view(output(op)))
        em, channels = ctx.emitter, self.y.shape[3]
        free = em.l1_free(core)
        self.channels = largest(channels, lambda m: self._need(1, m) <= free)
        if not self.channels:
            raise em.no_fit(em.l1_capacity - free + self._need(1, 1))
        self.step = next(s for s in range(rows[1] - rows[0], 0, -1) if self._need(s, self.channels) <= free)
        area = self.step * self.y.shape[2] * self.channels
        self.tiles = Ring(em, core, self._taken(self.step) * self.x.shape[2] * self.channels, False)
        self.outs, self.sums = Ring(em, core, area, False), Ring(em, core, area, False, Kind.INT32)

    def _taken(self, count: int) -> int:
        """Most input rows that `count` result rows read."""
        return max(b - a for a, b in (reach(self.index, r) for r in pieces(self.rows, count)))

    def _need(self, count: int, channels: int) -> int:
        """L1 bytes of a tile of `count` rows."""
        return self._taken(count) * self.x.shape[2] * channels + 5 * count * self.y.shape[2] * channels + 1024

    def run(self) -> None:
        """All images, channels and rows."""
        for n in range(self.y.shape[0]):
            for channels in pieces((0, self.y.shape[3]), self.channels):
                for rows in pieces(self.rows, self.step):
                    self._tile(n, rows, channels)

    def _tile(self, n: int, rows: Range, channels: Range) -> None:
        em, (m0, m1), (lo, hi) = self.ctx.emitter, channels, rows
        first, last = reach(self.index, rows)
        tile = self.tiles.next((last - first, self.x.shape[2], m1 - m0))
        em.copy(self.core, tile, self.x.cut(0, n, 1).drop(0).cut(0, first, last - first).cut(2, m0, m1 - m0))
        acc = self.sums.next((hi - lo, self.y.shape[2], m1 - m0))
        em.op(self.core, Opcode.RESIZE, acc, tile, self.tables[0].cut(1, lo, hi - lo), self.tables[1], zero=self.zero, first=first)
        out = self.outs.next(acc.shape)
        assert self.params.multiplier
        row = self.params.row(self.ctx, None, self.params.multiplier.broadcast((acc.size,)))
        flat = dense(acc.buffer, (acc.size,), Kind.INT32)
        em.op(self.core, Opcode.REQUANT, dense(out.buffer, (acc.size,)), flat, epilogue=row)
        em.copy(self.core, self.y.cut(0, n, 1).drop(0).cut(0, lo, hi - lo).cut(2, m0, m1 - m0), out)


def reach(index: Array, rows: Range) -> Range:
    """Input rows from the lowest to the highest that these result rows read."""
    part = index[:, rows[0] : rows[1]]
    return int(part.min()), int(part.max()) + 1
