"""Layer normalization: each tile holds whole rows."""

import numpy as np

from axforge.axcompiler.ir.ops.normalization import LayerNorm
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.tile.context import Parameters, TileContext, lowers, output
from axforge.axcompiler.tile.parts import physical, shared_leading, whole_rows


@lowers(LayerNorm)
def lower_layer_norm(ctx: TileContext, op: LayerNorm) -> None:
    """Tiles over the leading axes; each holds the whole last axis."""
    em, x, y = ctx.emitter, ctx.view(op.inputs[0]), ctx.view(output(op))
    last = len(y.shape) - 1
    order = [*(a for a in physical(y) if a != last), last]
    parameters = em.constant(np.stack([ctx.const(op.multiplier), ctx.const(op.offset)]))
    block = Parameters.pack(ctx, op.epilogue, None, None)
    for core, (out, source) in enumerate(shared_leading(y.permute(order), x.permute(order), em.cores)):
        tile_parameters = em.load(core, parameters)
        row = Parameters.load(ctx, core, block, op.epilogue, 0, 0).row(ctx, None, None)
        for result, tile in whole_rows(ctx, core, out, source):
            em.op(core, Opcode.NORMALIZE, result, tile, tile_parameters, epsilon=op.epsilon, epilogue=row)
