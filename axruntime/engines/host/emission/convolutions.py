"""Steps of a convolution: depthwise, or one matrix product for each bundle of groups."""

import numpy as np
from numpy.typing import NDArray

from axforge.axruntime.engines.host.codegen.params import Ref
from axforge.axruntime.engines.host.emission.depthwise import depthwise
from axforge.axruntime.engines.host.emission.emitter import Emitter
from axforge.axruntime.engines.host.emission.product import Convolution, Product, Window
from axforge.axruntime.engines.host.emission.products import emit_product
from axforge.axruntime.engines.host.emission.weights import segments


def convolve(m: Emitter, name: str, c: Convolution) -> None:
    """Adds the steps of one convolution."""
    count, cg, kh, kw = c.weight.shape
    if c.groups == count == c.x.shape[1] and cg == 1 and c.groups > 1:
        depthwise(m, name, c)
        return
    mg = count // c.groups
    bundle = _bundle(c.groups, cg, mg)
    _, _, row, pixel = c.x.strides
    seg = segments((kh, kw), c.dilations, bundle * cg, row, pixel, m.isa.group)
    window = Window((kh, kw), c.strides, c.dilations, row, pixel)
    for g in range(0, c.groups, bundle):
        channels = slice(g * mg, (g + bundle) * mg)
        dense = _block_diagonal(c.weight[channels], bundle)
        y = c.y.cut(1, g * mg, bundle * mg)
        x = Ref(c.first.root, c.first.offset + g * cg)
        p = Product(x, *c.distances, y, seg, dense, c.bias[channels], c.multiplier[channels], c.zero_byte, c.epilogue, window)
        emit_product(m, name, p)


def _bundle(groups: int, cg: int, mg: int) -> int:
    """Groups that are computed together as one dense product with zeros off the diagonal: as many as fill a vector."""
    if groups == 1:
        return 1
    most = max(1, min(16 // mg, 64 // cg))
    return next(b for b in range(most, 0, -1) if groups % b == 0)


def _block_diagonal(weight: NDArray[np.int8], bundle: int) -> NDArray[np.int8]:
    """weight [bundle * mg, cg, KH, KW] -> [bundle * mg, bundle * cg, KH, KW]."""
    if bundle == 1:
        return weight
    count, cg, kh, kw = weight.shape
    mg = count // bundle
    out = np.zeros((count, bundle * cg, kh, kw), np.int8)
    for b in range(bundle):
        out[b * mg : (b + 1) * mg, b * cg : (b + 1) * cg] = weight[b * mg : (b + 1) * mg]
    return out
