"""Softmax: each tile holds the whole axis."""

from axforge.axcompiler import ir
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.tile.context import Parameters, TileContext, lowers, output
from axforge.axcompiler.tile.parts import physical, shared_leading, whole_rows


@lowers(ir.Softmax)
def lower_softmax(ctx: TileContext, op: ir.Softmax) -> None:
    """Tiles over the other axes; each holds the whole axis."""
    em, x, y = ctx.emitter, ctx.view(op.inputs[0]), ctx.view(output(op))
    order = [a for a in physical(y) if a != op.axis]
    source, out = x.permute((*order, op.axis)), y.permute((*order, op.axis))
    exponents = em.constant(ctx.const(op.exponent))
    block = Parameters.pack(ctx, op.epilogue, None, None)
    for core, (dst, src) in enumerate(shared_leading(out, source, em.cores)):
        table = em.load(core, exponents)
        row = Parameters.load(ctx, core, block, op.epilogue, 0, 0).row(ctx, None, None)
        for result, tile in whole_rows(ctx, core, dst, src):
            em.op(core, Opcode.SOFTMAX, result, tile, table, scale=op.multiplier, epilogue=row)
