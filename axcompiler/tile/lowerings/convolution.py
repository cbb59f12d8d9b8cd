"""Convolutions, plain, grouped and transposed, on the array; depthwise ones on the DWPU."""

from dataclasses import dataclass

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.program import Kind, as_conv_weight
from axforge.axcompiler.strides import dense
from axforge.axcompiler.tile.context import Parameters, TileContext, lowers, nhwc, output, wrap32
from axforge.axcompiler.tile.tiles import Axis, Box, Range, Ring, boxes, core_shares, largest, load_window, pieces, shares, window_view
from axforge.axcompiler.tile.views import View
from axforge.axcompiler.tile.windows import CoreShare, channelwise_tiles


@dataclass(frozen=True)
class ConvolutionJob:
    """A convolution without the places of its tensors. `weight` is that of a plain convolution, [M, C/groups, KH, KW].

    fold: groups side by side in one matrix; channels: rows of the matrix for each tap (input channels of `fold` groups).
    """

    op: ir.Conv | ir.ConvTranspose
    axes: tuple[Axis, Axis]
    weight: np.ndarray[tuple[int, ...], np.dtype[np.int8]]
    groups: int
    fold: int
    channels: int

    @property
    def m(self) -> int:
        """Output channels of all groups."""
        return self.weight.shape[0]

    @property
    def taps(self) -> int:
        """Positions of the kernel: KH * KW."""
        return self.weight.shape[2] * self.weight.shape[3]

    @property
    def columns(self) -> int:
        """Results of one matrix."""
        return self.m // self.groups * self.fold

    def blocks(self, channels: Range, limit: int) -> list[tuple[int, Range]]:
        """(matrix, channels of the result) for the part `channels`, none wider than the array."""
        out = []
        for matrix in range(channels[0] // self.columns, -(-channels[1] // self.columns)):
            a, b = max(channels[0], matrix * self.columns), min(channels[1], (matrix + 1) * self.columns)
            out += [(matrix, piece) for piece in pieces((a, b), limit)]
        return out

    def inputs(self, channels: Range) -> Range:
        """Input channels that this part of the result reads."""
        first, last = channels[0] // self.columns, -(-channels[1] // self.columns)
        return first * self.channels, last * self.channels

    def deepest(self, passes: list[Range]) -> int:
        """The most input channels that one of these parts of the result reads: a part may begin or end in the middle of a matrix."""
        return max(b - a for a, b in map(self.inputs, passes))


def passes_of(channels: Range, size: int) -> list[Range]:
    """The part `channels` of the result in passes of `size` channels; the last may be shorter."""
    return [(a, min(channels[1], a + size)) for a in range(*channels, size)]


def _axes(ctx: TileContext, op: ir.Conv | ir.ConvTranspose, kernel: tuple[int, int]) -> tuple[Axis, Axis]:
    x, y = ctx.graph.tensors[op.inputs[0]].shape[2:], ctx.graph.tensors[output(op)].shape[2:]
    made = []
    for i in range(2):
        k, s, d, before = kernel[i], op.strides[i], op.dilations[i], op.pads[i]
        if isinstance(op, ir.ConvTranspose):
            made.append(Axis(x[i], y[i], k, 1, d, (k - 1) * d - before, s))
        else:
            made.append(Axis(x[i], y[i], k, s, d, before))
    return made[0], made[1]


@lowers(ir.Conv, ir.ConvTranspose)
def lower_conv(ctx: TileContext, op: ir.Conv | ir.ConvTranspose) -> None:
    """A convolution as one or more tiles on each core."""
    stored = ctx.const(op.weight)
    weight = as_conv_weight(stored, op.groups) if isinstance(op, ir.ConvTranspose) else stored
    m, cg, kh, kw = weight.shape
    axes = _axes(ctx, op, (kh, kw))
    if cg == 1 and m == op.groups and m > 1 and isinstance(op, ir.Conv):
        _lower_depthwise(ctx, op, axes)
        return
    rows, columns = ctx.emitter.target.array.rows, ctx.emitter.target.array.columns
    fold = max(
        f
        for f in range(1, op.groups + 1)
        if op.groups % f == 0 and (f == 1 or (cg * f * kh * kw <= rows and m // op.groups * f <= columns))
    )
    view = ctx.view(op.inputs[0])
    # the pixel's whole word of 4 is loaded (its weights beyond the channels are 0): one run of bytes for each window row
    words = view.strides[1] == 1 and not any(n % 4 for n in (view.offset, view.strides[0], view.strides[2], view.strides[3]))
    packed = op.groups == 1 and cg < 4 and words and view.strides[3] >= 4
    job = ConvolutionJob(op, axes, weight, op.groups, fold, 4 if packed else cg * fold)
    _lower_mvm(ctx, job)


def _fused_bias(ctx: TileContext, job: ConvolutionJob) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """bias - z * sum of weights: padding holds z, so that the array may multiply codes as they are. Modulo 2**32 as the accumulator."""
    total = job.weight.reshape(job.m, -1).astype(np.int64).sum(axis=1)
    return wrap32(ctx.const(job.op.bias).astype(np.int64) - ctx.zero(job.op.inputs[0]) * total)


@dataclass(frozen=True)
class Tiling:
    """rows, cols of the result in a tile; channels in a pass; depth: input channels that a pass reads at most.

    double: double-buffered tiles, so that copies, products and epilogues of neighbours overlap.
    store: bytes of L1 that hold the weights of any one pass, which then stay there; 0 if they are streamed.
    """

    rows: int
    cols: int
    channels: int
    depth: int
    store: int
    double: bool


def _store_bytes(ctx: TileContext, job: ConvolutionJob, passes: list[Range]) -> int:
    """L1 bytes that hold the weights of any one of the passes: its blocks, aligned, and one word more for each matrix and at the end."""
    k, limit = job.channels * job.taps, ctx.emitter.target.array.columns
    need = 0
    for part in passes:
        blocks = job.blocks(part, limit)
        matrices = blocks[-1][0] - blocks[0][0] + 1
        need = max(need, sum(ctx.emitter.aligned(k * (b - a)) for _, (a, b) in blocks) + 64 * (matrices + 1))
    return need


def _bytes(ctx: TileContext, job: ConvolutionJob, t: Tiling, rows: int, cols: int) -> int:
    """L1 bytes of one core for this tiling."""
    up, array = ctx.emitter.aligned, ctx.emitter.target.array
    times = 2 if t.double else 1
    tile = up(job.axes[0].span(rows) * job.axes[1].span(cols) * t.depth) * times
    weights = t.store or 2 * up(array.rows * min(array.columns, t.channels))
    return tile + weights + (up(rows * cols * t.channels * 4) + up(rows * cols * t.channels)) * times + up(job.m * 8 + 256)


def _choose(ctx: TileContext, job: ConvolutionJob, rows: Range, cols: Range, channels: Range) -> Tiling:
    """The tiling that moves the fewest bytes. Raises CompileError if nothing fits."""
    height, width, count = rows[1] - rows[0], cols[1] - cols[0], channels[1] - channels[0]
    capacity = ctx.emitter.l1_capacity
    passes, best, need = sorted({-(-count // p) for p in (1, 2, 3, 4, 6, 8, 16, 32, 64) if p <= count}), None, 0
    for size in passes:
        size = count if size == count else min(count, -(-size // 64) * 64)
        parts = passes_of(channels, size)
        depth = job.deepest(parts)
        for store in (_store_bytes(ctx, job, parts), 0):
            for double in (False, True):
                t = Tiling(0, width, size, depth, store, double)
                r = largest(height, lambda n, t=t: _bytes(ctx, job, t, n, width) <= capacity)  # type: ignore[misc]
                c = width if r else largest(width, lambda n, t=t: _bytes(ctx, job, t, 1, n) <= capacity)  # type: ignore[misc]
                if not c:
                    smallest = _bytes(ctx, job, t, 1, 1)
                    need = min(need or smallest, smallest)
                    continue
                t = Tiling(max(1, r), c, size, depth, store, double)
                tiles = -(-height // t.rows) * -(-width // t.cols)
                if double != (tiles > 1):
                    continue
                cost = _traffic(job, t, height, width, count, tiles)
                if best is None or cost < best[0]:
                    best = (cost, t)
    if best is None:
        raise ctx.emitter.no_fit(need)
    return best[1]


def _traffic(job: ConvolutionJob, t: Tiling, height: int, width: int, count: int, tiles: int) -> int:
    """Bytes moved by a core, and a price on every tile (its instructions)."""
    passes = -(-count // t.channels)
    image = job.axes[0].span(min(t.rows, height)) * job.axes[1].span(min(t.cols, width)) * job.channels * tiles
    weights = job.channels * job.taps * count
    return passes * image + weights * (1 if t.store else 2 * tiles) + 20_000 * passes * tiles


def _lower_mvm(ctx: TileContext, job: ConvolutionJob) -> None:
    op = job.op
    n, _, oh, ow = ctx.graph.tensors[output(op)].shape
    form = "transposed" if isinstance(op, ir.ConvTranspose) else "conv"
    buffer = ctx.weights.add(op.weight, ctx.const(op.weight), form, job.groups, job.fold, job.channels)
    k = job.channels * job.taps
    matrices = dense(buffer, (job.groups // job.fold, k, job.columns))
    block = Parameters.pack(ctx, op.epilogue, _fused_bias(ctx, job), ctx.const(op.multiplier))
    for core, (rows, cols, channels) in enumerate(_shares(ctx, job, oh, ow)):
        params = Parameters.load(ctx, core, block, op.epilogue, job.m, job.m)
        _ConvolutionTiles(ctx, job, core, params, matrices, _choose(ctx, job, rows, cols, channels)).run(n, rows, cols, channels)


def _shares(ctx: TileContext, job: ConvolutionJob, oh: int, ow: int) -> list[tuple[Range, Range, Range]]:
    """What each core makes: a part of the rows, or, where loading all weights on every core would take longer, of the channels."""
    em, array = ctx.emitter, ctx.emitter.target.array
    by_place = core_shares(oh, ow, job.m, em.cores)
    by_channel: list[tuple[Range, Range, Range]] = [((0, oh), (0, ow), part) for part in shares(job.m, em.cores, 64)]
    dma, image = em.target.dma, job.axes[0].size * job.axes[1].size * job.channels * job.groups // job.fold
    deep = -(-job.channels * job.taps // array.rows)

    def estimate(parts: list[tuple[Range, Range, Range]]) -> float:
        """Cycles of the busiest unit of one core."""
        (r0, r1), (c0, c1), (m0, m1) = parts[0]
        area = (r1 - r0) * (c1 - c0)
        products = area * deep * len(job.blocks((m0, m1), array.columns)) * array.cycles_per_vector
        weights = job.channels * job.taps * (m1 - m0) / dma.ddr_bytes_per_cycle
        return max(products, weights + image * area / (oh * ow) / dma.l2_bytes_per_cycle)

    return min(by_place, by_channel, key=estimate)


class _ConvolutionTiles:
    """Emits the tiles of one core."""

    def __init__(self, ctx: TileContext, job: ConvolutionJob, core: int, params: Parameters, matrices: View, tiling: Tiling) -> None:
        self.ctx, self.job, self.core, self.params, self.matrices, self.tiling = ctx, job, core, params, matrices, tiling
        em, t = ctx.emitter, tiling
        area = min(t.rows, job.axes[0].out) * min(t.cols, job.axes[1].out)
        span = job.axes[0].span(t.rows) * job.axes[1].span(t.cols)
        self.inputs = Ring(em, core, span * t.depth, t.double)
        self.outputs = Ring(em, core, area * t.channels, t.double)
        self.acc = Ring(em, core, area * t.channels, t.double, Kind.INT32)
        self.resident: dict[tuple[int, Range], View] = {}
        array = em.target.array
        self.stream = None if t.store else Ring(em, core, array.rows * min(array.columns, t.channels), True)
        self.store = em.l1(core, (t.store,)) if t.store else None

    def run(self, n: int, rows: Range, cols: Range, channels: Range) -> None:
        t = self.tiling
        for part in passes_of(channels, t.channels):
            self._load_weights(part)
            for box in boxes(n, rows, cols, [part], (t.rows, t.cols)):
                self._tile(box)

    def _blocks(self, channels: Range) -> list[tuple[int, Range]]:
        return self.job.blocks(channels, self.ctx.emitter.target.array.columns)

    def _load_weights(self, channels: Range) -> None:
        if self.store is None:
            return
        at, k = 0, self.job.channels * self.job.taps
        self.resident = {}
        for matrix, (a, b) in self._blocks(channels):
            view = dense(self.store.buffer, (k, b - a), Kind.INT8, at)
            self.ctx.emitter.copy(self.core, view, self._const(matrix, (a, b)))
            self.resident[matrix, (a, b)] = view
            at += self.ctx.emitter.aligned(k * (b - a))

    def _const(self, matrix: int, block: Range) -> View:
        start = block[0] - matrix * self.job.columns
        return self.matrices.cut(0, matrix, 1).drop(0).cut(1, start, block[1] - block[0])

    def _tile(self, box: Box) -> None:
        job, em = self.job, self.ctx.emitter
        x, y = self.ctx.place(job.op.inputs[0]), nhwc(self.ctx.view(output(job.op)))
        rows, cols, m = (b - a for a, b in (box.rows, box.cols, box.channels))
        first, last = job.inputs(box.channels)
        image = nhwc(x.view).cut(0, box.n, 1).drop(0).cut(2, first, last - first)
        tile = self.inputs.next((job.axes[0].span(rows), job.axes[1].span(cols), last - first))
        load_window(em, self.core, tile, image, x.halo, job.axes, box, self.ctx.zero(job.op.inputs[0]))
        window = window_view(tile, job.axes, rows, cols)
        acc = self.acc.next((rows, cols, m))
        for matrix, (a, b) in self._blocks(box.channels):
            part = window.cut(4, matrix * job.channels - first, job.channels)
            self._products(part, matrix, (a, b), acc.cut(2, a - box.channels[0], b - a))
        out = self.outputs.next((rows * cols, m))
        flat = dense(acc.buffer, (rows * cols, m), Kind.INT32)
        em.op(self.core, Opcode.REQUANT, out, flat, epilogue=self.params.per_channel(self.ctx, (rows * cols, m), box.channels[0]))
        target = y.cut(0, box.n, 1).drop(0).cut(0, box.rows[0], rows).cut(1, box.cols[0], cols).cut(2, box.channels[0], m)
        em.copy(self.core, target, dense(out.buffer, (rows, cols, m)))

    def _products(self, window: View, matrix: int, block: Range, acc: View) -> None:
        em = self.ctx.emitter
        for i, (k, view) in enumerate(depth_tiles(window, em.target.array.rows)):
            if self.stream is not None:
                weights = self.stream.next((k[1] - k[0], block[1] - block[0]))
                em.copy(self.core, weights, self._const(matrix, block).cut(0, k[0], k[1] - k[0]))
            else:
                weights = self.resident[matrix, block].cut(0, k[0], k[1] - k[0])
            em.op(self.core, Opcode.LOADW, a=weights, zero=0)
            em.op(self.core, Opcode.MVM, acc, view, axes=2, zero=0, accumulate=i > 0)


def depth_tiles(window: View, limit: int) -> list[tuple[Range, View]]:
    """A window [rows, cols, KH, KW, C] in parts of at most `limit` products: their range of matrix rows, and the part."""
    _, _, kh, kw, c = window.shape
    if kw * c <= limit:
        return [((a * kw * c, b * kw * c), window.cut(2, a, b - a)) for a, b in pieces((0, kh), limit // (kw * c))]
    out = []
    for i in range(kh):
        row = window.cut(2, i, 1)
        if c <= limit:
            out += [(((i * kw + a) * c, (i * kw + b) * c), row.cut(3, a, b - a)) for a, b in pieces((0, kw), limit // c)]
        else:
            base = [(i * kw + j) * c for j in range(kw)]
            out += [
                ((base[j] + a, base[j] + b), row.cut(3, j, 1).cut(4, a, b - a))
                for j in range(kw)
                for a, b in [(s, min(c, s + limit)) for s in range(0, c, limit)]
            ]
    return out


# ---------------------------------------------------------------- depthwise


def _lower_depthwise(ctx: TileContext, op: ir.Conv, axes: tuple[Axis, Axis]) -> None:
    em, weight = ctx.emitter, ctx.const(op.weight)
    c, _, kh, kw = weight.shape
    job = ConvolutionJob(op, axes, weight, 1, 1, 1)
    n, _, oh, ow = ctx.graph.tensors[output(op)].shape
    weights = dense(ctx.weights.add(op.weight, weight, "depthwise"), (kh, kw, c))
    block = Parameters.pack(ctx, op.epilogue, _fused_bias(ctx, job), ctx.const(op.multiplier))
    for core, (rows, cols, channels) in enumerate(core_shares(oh, ow, c, em.cores)):
        params = Parameters.load(ctx, core, block, op.epilogue, c, c)
        kernel = em.load(core, weights).permute((2, 0, 1))

        def compute(core: int, box: Box, tile: View, out: View, sums: View, kernel: View = kernel, params: Parameters = params) -> None:
            first, last = box.channels
            part = kernel.cut(0, first, last - first)
            rows, cols, m = out.shape
            window = window_view(tile, axes, rows, cols).permute((0, 1, 4, 2, 3))
            em.op(core, Opcode.DWCONV, sums, window, part)
            flat = dense(sums.buffer, (rows * cols, m), Kind.INT32)
            row = params.per_channel(ctx, (rows * cols, m), first)
            em.op(core, Opcode.REQUANT, dense(out.buffer, (rows * cols, m)), flat, epilogue=row)

        channelwise_tiles(ctx, op, core, axes, CoreShare(n, rows, cols, channels), ctx.zero(op.inputs[0]), compute, accumulates=True)
