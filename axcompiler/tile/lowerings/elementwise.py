"""Operators on the vector unit that go element by element."""

from msgspec.structs import replace

from axforge.axcompiler import ir
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.strides import coalesce
from axforge.axcompiler.tile.context import Parameters, TileContext, lowers, output
from axforge.axcompiler.tile.parts import box_of, cut_tiles, parts_of, physical
from axforge.axcompiler.tile.tiles import Ring
from axforge.axcompiler.tile.views import View


@lowers(ir.Add, ir.Mul)
def lower_pointwise(ctx: TileContext, op: ir.Add | ir.Mul) -> None:
    """a and b broadcast to the result; tiles in the result's memory order."""
    em, out = ctx.emitter, ctx.view(output(op))
    order = physical(out)
    a, b = (ctx.view(n).broadcast(out.shape) for n in op.inputs)
    views = coalesce([v.permute(order) for v in (out, a, b)])
    block = Parameters.pack(ctx, op.epilogue, None, None)
    for core, (y, *operands) in enumerate(parts_of(views, em.cores)):
        params = Parameters.load(ctx, core, block, op.epilogue, 0, 0)
        row = params.row(ctx, None, None)
        limit = em.l1_free(core) // 6 - 64
        if limit < 1:
            raise em.no_fit(em.l1_capacity)
        limit = min(limit, y.size)
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
            _emit(ctx, op, core, (codes, left, right), row)
            em.copy(core, box_of(y, box), result)


def _emit(ctx: TileContext, op: ir.Add | ir.Mul, core: int, operands: tuple[View, View, View], epilogue: int) -> None:
    zero_a, zero_b = (ctx.zero(n) for n in op.inputs)
    if isinstance(op, ir.Add):
        scale_a, scale_b = op.multipliers
        ctx.emitter.op(core, Opcode.ADD, *operands, zero_a=zero_a, zero_b=zero_b, scale_a=scale_a, scale_b=scale_b, epilogue=epilogue)
    else:
        ctx.emitter.op(core, Opcode.MUL, *operands, zero_a=zero_a, zero_b=zero_b, scale=op.multiplier, epilogue=epilogue)


def table_copy(ctx: TileContext, out: View, a: View, table: str, users: int = 1) -> None:
    """out = table[a + 128], through L1, shared by all cores. users: how many such copies have to share what is free of L1."""
    em, order = ctx.emitter, physical(out)
    block = em.constant(ctx.const(table))
    for core, (y, x) in enumerate(parts_of(coalesce([out.permute(order), a.permute(order)]), em.cores)):
        entries = em.load(core, block)
        limit = em.l1_free(core) // users // 4 - 128
        if limit < 1:
            raise em.no_fit(em.l1_capacity)
        limit = min(limit, y.size)
        sources, results = Ring(em, core, limit, True), Ring(em, core, limit, True)
        for box in cut_tiles(y.shape, limit):
            shape = tuple(e - s for s, e in box)
            tile, result = sources.next(shape), results.next(shape)
            em.copy(core, tile, box_of(x, box))
            codes, source = coalesce([result, tile])
            em.op(core, Opcode.TABLE, codes, source, entries)
            em.copy(core, box_of(y, box), result)


@lowers(ir.Table)
def lower_table(ctx: TileContext, op: ir.Table) -> None:
    """A table over a whole tensor."""
    table_copy(ctx, ctx.view(output(op)), ctx.view(op.inputs[0]), op.table)
