"""MatMul: products of two activations."""

import math

import numpy as np

from axforge.axcompiler import ir, numerics
from axforge.axcompiler.strides import dense
from axforge.axruntime.engines.host.emission.activation_products import Stack, activation_product, readable
from axforge.axruntime.engines.host.emission.elementwise import copy, fill
from axforge.axruntime.engines.host.emission.emitter import Emitter, emits


@emits(ir.MatMul)
def matmul(m: Emitter, op: ir.MatMul) -> None:
    """A product whose operands and result are copied where neither their rows nor, of the second operand, its columns are contiguous."""
    a, b, y = m.view(op.inputs[0]), m.view(op.inputs[1]), m.view(op.outputs[0])
    if not math.prod(y.shape):
        return
    if a.shape[-1] == 0:
        fill(m, op.name, y, _code_of_nothing(m, op) + 128)
        return
    direct = y.strides[-1] == 1 or y.shape[-1] == 1
    out = y if direct else dense(m.temporary((math.prod(y.shape),)).buffer, y.shape)
    zeros = m.zero_byte(op.inputs[0]), m.zero_byte(op.inputs[1])
    operands = readable(m, op.name, a), readable(m, op.name, b, either=True)
    activation_product(m, op.name, Stack(*operands, out, zeros, np.float32(op.multiplier), op.epilogue))
    if not direct:
        copy(m, op.name, out, y)


def _code_of_nothing(m: Emitter, op: ir.MatMul) -> int:
    """The code of a sum of no products."""
    e = op.epilogue
    table = None if e.table is None else np.asarray(m.graph.constants[e.table], np.int8)
    zero = np.zeros(1, np.float32) * np.float32(op.multiplier)
    return int(numerics.requantize(zero, e.zero_point, e.lo, e.hi, table)[0])
