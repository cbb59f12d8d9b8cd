"""Operators that only move codes: one strided copy each, by DMA, shared by the cores."""

import math

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.strides import coalesce, dense, refine, reshaped, split_to
from axforge.axcompiler.tile.context import TileContext, lowers, output
from axforge.axcompiler.tile.layout import sliced
from axforge.axcompiler.tile.lowerings.elementwise import table_copy
from axforge.axcompiler.tile.parts import parts_of, physical
from axforge.axcompiler.tile.tiles import shares
from axforge.axcompiler.tile.views import View


def shared_copy(ctx: TileContext, out: View, a: View) -> None:
    """out = a, each core a part."""
    if not out.size:
        return
    order = physical(out)
    views = coalesce([out.permute(order), a.permute(order)])
    for core, (dst, src) in enumerate(parts_of(views, ctx.emitter.cores)):
        ctx.emitter.copy(core, dst, src)


@lowers(ir.Reshape)
def lower_reshape(ctx: TileContext, op: ir.Reshape) -> None:
    """Nothing where the result is a view of the operand; one copy if both shapes have a common refinement; else through staging."""
    x, y = ctx.view(op.inputs[0]), ctx.view(output(op))
    if reshaped(x, y.shape) == y:
        return
    fine = refine(x.shape, y.shape)
    if fine is not None:
        parts = split_to(x, fine), split_to(y, fine)
        if parts[0] is not None and parts[1] is not None:
            shared_copy(ctx, parts[1], parts[0])
            return
    stage = ctx.plan.scratch[ctx.emitter.layer]
    shared_copy(ctx, dense(stage, x.shape), x)
    ctx.emitter.barrier()
    shared_copy(ctx, y, dense(stage, y.shape))


def reshape_staging(graph: Graph) -> dict[int, int]:
    """Bytes of row-major staging by layer, for reshapes that a single strided copy cannot make."""
    shapes = {i: (op.operand_shape(graph), op.output_shape(graph)) for i, op in enumerate(graph.ops) if isinstance(op, ir.Reshape)}
    return {i: math.prod(x) for i, (x, y) in shapes.items() if 0 not in x and refine(x, y) is None}


@lowers(ir.Transpose)
def lower_transpose(ctx: TileContext, op: ir.Transpose) -> None:
    """A copy with the axes in another order."""
    shared_copy(ctx, ctx.view(output(op)), ctx.view(op.inputs[0]).permute(op.perm))


@lowers(ir.Slice)
def lower_slice(ctx: TileContext, op: ir.Slice) -> None:
    """Nothing where the result is a view of the operand; else a copy with starts and steps."""
    y = ctx.view(output(op))
    x = sliced(ctx.view(op.inputs[0]), op, y.shape)
    if x != y:
        shared_copy(ctx, y, x)


@lowers(ir.Broadcast)
def lower_broadcast(ctx: TileContext, op: ir.Broadcast) -> None:
    """A copy with strides of 0."""
    y = ctx.view(output(op))
    shared_copy(ctx, y, ctx.view(op.inputs[0]).broadcast(y.shape))


@lowers(ir.Pad)
def lower_pad(ctx: TileContext, op: ir.Pad) -> None:
    """The value around, and the operand in the middle."""
    x, y = ctx.view(op.inputs[0]), ctx.view(output(op))
    inner = y
    for axis, (before, size) in enumerate(zip(op.before, x.shape, strict=True)):
        outside = ((0, before), (before + size, op.after[axis]))
        for start, count in outside:
            ctx.emitter.fill(axis % ctx.emitter.cores, inner.cut(axis, start, count), op.value)
        inner = inner.cut(axis, before, size)
    shared_copy(ctx, inner, x)


@lowers(ir.Concat)
def lower_concat(ctx: TileContext, op: ir.Concat) -> None:
    """An operand was made in its place already, or needs a copy, or a table."""
    y, at = ctx.view(output(op)), 0
    users = sum(t is not None for t in op.tables)
    for name, table in zip(op.inputs, op.tables, strict=True):
        x = ctx.view(name)
        part = y.cut(op.axis, at, x.shape[op.axis])
        at += x.shape[op.axis]
        if not x.size or x == part:
            continue
        if table is None:
            shared_copy(ctx, part, x)
        else:
            table_copy(ctx, part, x, table, users)
            users -= 1


@lowers(ir.Take)
def lower_take(ctx: TileContext, op: ir.Take) -> None:
    """Runs of equal indices (nearest resize) and steady steps are one strided copy; anything else is a gather."""
    x, y, index = ctx.view(op.inputs[0]), ctx.view(output(op)), ctx.const(op.index)
    pattern = steady(index)
    if pattern is not None:
        start, step, repeat = pattern
        count = len(index) // repeat
        source = x.cut(op.axis, start, count, step).insert(op.axis + 1, repeat)
        shared_copy(ctx, y.split(op.axis, (count, repeat)), source)
        return
    table = ctx.emitter.constant(index.astype(np.int32))
    axis, others = op.axis, [a for a in physical(y) if a != op.axis]
    source, out = x.permute((axis, *others)), y.permute((axis, *others))
    for core, (dst, src) in enumerate(_split_others(out, source, ctx.emitter.cores)):
        ctx.emitter.op(core, Opcode.GATHER, dst, src, table, axis=0)


def _split_others(out: View, source: View, cores: int) -> list[tuple[View, View]]:
    """Each core's part along the first axis after the gathered one that is long enough."""
    for axis in range(1, len(out.shape)):
        if out.shape[axis] >= cores:
            return [(out.cut(axis, a, b - a), source.cut(axis, a, b - a)) for a, b in shares(out.shape[axis], cores)]
    return [(out, source)]


def steady(index: Array) -> tuple[int, int, int] | None:
    """(start, step, repeat) if index is start, start, ..., start + step, ...: each value `repeat` times; else None."""
    values = np.asarray(index, np.int64)
    if not len(values):
        return None
    changes = np.flatnonzero(np.diff(values))
    repeat = int(changes[0]) + 1 if len(changes) else len(values)
    if len(values) % repeat:
        return None
    heads = values[::repeat]
    step = int(heads[1] - heads[0]) if len(heads) > 1 else 1
    made = np.repeat(heads[0] + step * np.arange(len(heads)), repeat)
    return (int(heads[0]), step, repeat) if (made == values).all() else None
