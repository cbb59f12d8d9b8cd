"""Add, Mul, Table."""

import numpy as np

from axforge.axcompiler import ir
from axforge.axruntime.engines.host.emission.elementwise import ElementwiseOperation, emit_elementwise, look_up
from axforge.axruntime.engines.host.emission.emitter import Emitter, emits


def _arithmetic(m: Emitter, op: ir.Add | ir.Mul, kind: str, multipliers: tuple[float, ...]) -> None:
    y = m.view(op.outputs[0])
    xs = [m.view(n).broadcast(y.shape) for n in op.inputs]
    zeros, scales = tuple(m.zero_byte(n) for n in op.inputs), tuple(np.float32(s) for s in multipliers)
    emit_elementwise(m, op.name, ElementwiseOperation(kind, xs, y, epilogue=op.epilogue, zeros=zeros, scales=scales))


@emits(ir.Add)
def add(m: Emitter, op: ir.Add) -> None:
    """Sum of two tensors, each with its multiplier."""
    _arithmetic(m, op, "add", op.multipliers)


@emits(ir.Mul)
def mul(m: Emitter, op: ir.Mul) -> None:
    """Product of two tensors."""
    _arithmetic(m, op, "mul", (op.multiplier,))


@emits(ir.Table)
def table(m: Emitter, op: ir.Table) -> None:
    """A function of one tensor."""
    look_up(m, op.name, m.view(op.inputs[0]), m.view(op.outputs[0]), op.table)
