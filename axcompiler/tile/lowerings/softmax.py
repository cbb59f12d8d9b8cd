"""Softmax: each tile holds the whole axis."""

from axforge.axcompiler import ir
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.tile.context import Parameters, TileContext, lowers, output
from axforge.axcompiler.tile.parts import box_of, cut_tiles, ordered_tile, physical, shared_leading
from axforge.axcompiler.tile.tiles import Ring


@lowers(ir.Softmax)
def lower_softmax(ctx: TileContext, op: ir.Softmax) -> None:
    """Tiles over the other axes; each holds the whole axis."""
    em, x, y = ctx.emitter, ctx.view(op.inputs[0]), ctx.view(output(op))
    order = [a for a in physical(y) if a != op.axis]
    source, out = x.permute((*order, op.axis)), y.permute((*order, op.axis))
    depth = source.shape[-1]
    exponents = em.constant(ctx.const(op.exponent))
    block = Parameters.pack(ctx, op.epilogue, None, None)
    for core, (dst, src) in enumerate(shared_leading(out, source, em.cores)):
        table = em.load(core, exponents)
        row = Parameters.load(ctx, core, block, op.epilogue, 0, 0).row(ctx, None, None)
        limit = (em.l1_free(core) - 512) // (2 * depth)
        if limit < 1:
            raise em.no_fit(em.l1_capacity - em.l1_free(core) + 2 * depth + 512)
        limit = min(limit, max(1, dst.size // depth))
        tiles, results = Ring(em, core, limit * depth, False), Ring(em, core, limit * depth, False)
        for box in cut_tiles(dst.shape[:-1], limit):
            tile = ordered_tile(ctx, core, tiles, box_of(src, box))
            target = box_of(dst, box)
            where = physical(target)
            result = results.next(tuple(target.shape[a] for a in where)).permute(tuple(where.index(a) for a in range(len(where))))
            em.op(core, Opcode.SOFTMAX, result, tile, table, scale=op.multiplier, epilogue=row)
            em.copy(core, target, result)
