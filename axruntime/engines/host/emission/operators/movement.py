"""Operators that only move codes: they are views where the layout allows, and copies elsewhere."""

import numpy as np
from msgspec.structs import replace

from axforge.axcompiler import ir
from axforge.axcompiler.strides import dense, reshaped
from axforge.axruntime.engines.host.emission.elementwise import ElementwiseOperation, copy, emit_elementwise, fill, flat, look_up
from axforge.axruntime.engines.host.emission.emitter import Emitter, emits


@emits(ir.Concat)
def concat(m: Emitter, op: ir.Concat) -> None:
    """Operands that were not written into the result are copied; those of another scale go through a table."""
    y = m.view(op.outputs[0])
    at = 0
    for name, table in zip(op.inputs, op.tables, strict=True):
        x = m.view(name)
        part = y.cut(op.axis, at, x.shape[op.axis])
        at += x.shape[op.axis]
        if table is not None:
            look_up(m, op.name, x, part, table)
        elif x != part:
            copy(m, op.name, x, part)


@emits(ir.Reshape)
def reshape(m: Emitter, op: ir.Reshape) -> None:
    """Nothing where the result is a view of the operand; one copy where one side is row-major, else two."""
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    if y.size and reshaped(x, y.shape) == y:
        return
    if y.is_dense():
        copy(m, op.name, x, dense(y.buffer, x.shape, offset=y.offset))
    else:
        copy(m, op.name, flat(m, op.name, x, y.shape), y)


@emits(ir.Transpose)
def transpose(m: Emitter, op: ir.Transpose) -> None:
    """Permuted axes; nothing where one side is a view of the other."""
    x, y = m.view(op.inputs[0]).permute(op.perm), m.view(op.outputs[0])
    if x != y:
        copy(m, op.name, x, y)


@emits(ir.Slice)
def slice_(m: Emitter, op: ir.Slice) -> None:
    """Copied where it is not a view of the operand already."""
    y = m.view(op.outputs[0])
    part = m.view(op.inputs[0]).window(op.starts, y.shape, op.steps)
    if part != y:
        copy(m, op.name, part, y)


@emits(ir.Take)
def take(m: Emitter, op: ir.Take) -> None:
    """Constant indices along one axis become byte offsets."""
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    offsets = np.asarray(m.graph.constants[op.index], np.int64) * x.strides[op.axis]
    source = replace(x, shape=y.shape, strides=tuple(0 if a == op.axis else s for a, s in enumerate(x.strides)))
    emit_elementwise(m, op.name, ElementwiseOperation("copy", [source], y, taken={op.axis: offsets}))


@emits(ir.Pad)
def pad(m: Emitter, op: ir.Pad) -> None:
    """A constant everywhere, then the operand inside."""
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    fill(m, op.name, y, op.value + 128)
    copy(m, op.name, x, y.window(op.before, x.shape))


@emits(ir.Broadcast)
def broadcast(m: Emitter, op: ir.Broadcast) -> None:
    """Axes of size 1 repeated."""
    y = m.view(op.outputs[0])
    copy(m, op.name, m.view(op.inputs[0]).broadcast(y.shape), y)
