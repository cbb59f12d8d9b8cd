"""Islands, which the host runs."""

from axforge.axcompiler import ir
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.tile.context import TileContext, lowers


@lowers(ir.Island)
def lower_island(ctx: TileContext, op: ir.Island) -> None:
    """The host reads and writes DDR while the cores wait."""
    ctx.emitter.op(0, Opcode.HOST, operator=ctx.emitter.layer)
