"""FullyConnected."""

import math

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.strides import dense
from axforge.axruntime.engines.host.emission.elementwise import copy, flat
from axforge.axruntime.engines.host.emission.emitter import Emitter, emits, ref
from axforge.axruntime.engines.host.emission.layout import View
from axforge.axruntime.engines.host.emission.product import Product
from axforge.axruntime.engines.host.emission.products import emit_product
from axforge.axruntime.engines.host.emission.weights import Segments


@emits(ir.FullyConnected)
def fully_connected(m: Emitter, op: ir.FullyConnected) -> None:
    """The product of an image whose pixels are the rows of x."""
    c = m.graph.constants
    weight = np.asarray(c[op.weight], np.int8)
    count, k = weight.shape
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    n = math.prod(x.shape[:-1])
    if not n or not count:
        return
    x = flat(m, op.name, x, (n, k))
    direct = y.is_dense()
    out = y if direct else m.temporary((n, count))
    image = View(out.buffer, out.offset, (1, count, 1, n), (n * count, 1, n * count, count))
    seg = Segments((0,), 1, k, k)
    values = (weight.reshape(count, k, 1, 1), np.asarray(c[op.bias], np.int32), np.asarray(c[op.multiplier], np.float32))
    emit_product(m, op.name, Product(ref(x), n * k, n * k, k, image, seg, *values, m.zero_byte(op.inputs[0]), op.epilogue))
    if not direct:
        copy(m, op.name, dense(out.buffer, y.shape, offset=out.offset), y)
