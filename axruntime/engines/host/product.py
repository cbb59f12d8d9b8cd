"""A matrix product over an image, before a kernel is chosen for it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.ir import Epilogue
from axforge.axruntime.engines.host.codegen.epilogue import Finish
from axforge.axruntime.engines.host.emit import Emitter
from axforge.axruntime.engines.host.layout import View
from axforge.axruntime.engines.host.steps import Ref
from axforge.axruntime.engines.host.weights import Segments, depth, matrix, pack, packed_bytes, padded, shifted_bias

#: weights of one chunk of channels stay in the second-level cache while the pixels pass
CHUNK_BYTES = 768 << 10


@dataclass(frozen=True)
class Product:
    """`x` is the address of tap 0 of output pixel 0, in_* the distances of output images, rows and pixels in the input,
    `y` the result with channels next to each other."""

    x: Ref
    in_ns: int
    in_rs: int
    in_ps: int
    y: View
    seg: Segments
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.float32]
    zero_point: int
    epilogue: Epilogue

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.y.shape[0] * math.prod(self.y.shape[2:]) * self.weight.size


def runs(p: Product) -> tuple[int, int, int]:
    """(images, rows, pixels) with rows merged into one where both sides are contiguous."""
    n, _, oh, ow = p.y.shape
    if p.in_rs == ow * p.in_ps and p.y.strides[2] == ow * p.y.strides[3]:
        oh, ow = 1, oh * ow
        if p.in_ns == ow * p.in_ps and p.y.strides[0] == ow * p.y.strides[3]:
            n, ow = 1, n * ow
    return n, oh, ow


def weight_operands(m: Emitter, p: Product, seg: Segments, block: int) -> tuple[dict[str, Ref], dict[str, int], int]:
    """Operands and numbers that come from weights and epilogue, and the number of groups a segment has."""
    isa, count = m.isa, p.weight.shape[0]
    k = depth(seg, isa.group)
    blocks, size = -(-count // block), packed_bytes(count, k, block, isa)
    wstep = size // blocks
    operands, numbers = m.epilogue(p.epilogue)
    operands |= {
        "x": p.x,
        "y": Ref(p.y.root, p.y.offset),
        "w": m.consts.later(size, lambda: pack(matrix(p.weight, seg, isa.group), block, isa)),
        "bias": m.consts.add(padded(shifted_bias(p.bias, p.weight, p.zero_point), block)),
        "mult": m.consts.add(padded(p.multiplier, block)),
    }
    chunk = max(1, min(blocks, CHUNK_BYTES // wstep))
    if size > p.macs // p.weight.size * p.in_ps:
        # more weights than pixels: two threads read half of the weights each rather than all of them
        chunk = min(chunk, -(-blocks // 2))
    numbers |= {"nblocks": blocks, "chunk": chunk, "oc": count, "wstep": wstep}
    return operands, numbers, k // len(seg.offsets) // isa.group


def finish_of(e: Epilogue, multiplier: NDArray[np.float32]) -> Finish:
    """A sum is below 2**31, so a product with multipliers below 1 is too."""
    small = bool((np.abs(multiplier) < 0.999).all())
    return Finish(e.table is not None, e.lo > -128 or e.hi < 127, small)
