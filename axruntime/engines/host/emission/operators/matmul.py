"""MatMul: products of two activations."""

import math

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.strides import dense
from axforge.axruntime.engines.host.emission.activation_products import Stack, activation_product, readable
from axforge.axruntime.engines.host.emission.elementwise import copy
from axforge.axruntime.engines.host.emission.emitter import Emitter, emits


@emits(ir.MatMul)
def matmul(m: Emitter, op: ir.MatMul) -> None:
    """A product whose operands and result are copied where neither their rows nor, of the second operand, its columns are contiguous."""
    a, b, y = m.view(op.inputs[0]), m.view(op.inputs[1]), m.view(op.outputs[0])
    if not math.prod(y.shape):
        return
    direct = y.strides[-1] == 1 or y.shape[-1] == 1
    out = y if direct else dense(m.temporary((math.prod(y.shape),)).buffer, y.shape)
    zeros = m.zero_byte(op.inputs[0]), m.zero_byte(op.inputs[1])
    operands = readable(m, op.name, a), readable(m, op.name, b, either=True)
    activation_product(m, op.name, Stack(*operands, out, zeros, np.float32(op.multiplier), op.epilogue))
    if not direct:
        copy(m, op.name, out, y)
