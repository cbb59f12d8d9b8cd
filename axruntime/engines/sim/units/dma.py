"""The DMA: copies between any memories."""

import numpy as np

from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.numerics import Array
from axforge.axruntime.engines.sim.core import Core, Step, executes


@executes(Opcode.DMA)
def dma(core: Core, out: Array, a: Array) -> Step:
    """out = a."""
    return lambda: np.copyto(out, a)


@executes(Opcode.FILL)
def fill(core: Core, out: Array, value: int) -> Step:
    """out = value."""
    return lambda: out.fill(value)


@executes(Opcode.GATHER)
def gather(core: Core, out: Array, a: Array, b: Array, axis: int) -> Step:
    """out[.., i, ..] = a[.., b[i], ..]."""
    return lambda: np.copyto(out, np.take(a, b, axis=axis))
