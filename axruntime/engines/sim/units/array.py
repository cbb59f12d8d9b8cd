"""The array: matrix-vector products with weights that it holds."""

import math

import numpy as np

from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.numerics import Array
from axforge.axruntime.engines.sim.core import Core, FloatType, Step, executes

#: float32 elements of an im2col block: half a MiB, so that the product finds it in the CPU's L2 cache
PATCH = 1 << 17


@executes(Opcode.LOADW)
def loadw(core: Core, a: Array, zero: int) -> Step:
    """weights = a - zero."""
    # sums of products below 2**24 are exact in float32, of a deeper array in float64
    kind: FloatType = np.float32 if a.shape[0] * 255 * (255 if zero else 128) < 1 << 24 else np.float64
    core.exact = kind

    def step() -> None:
        core.weights = np.subtract(a, zero, dtype=kind) if zero else a.astype(kind)

    return step


@executes(Opcode.MVM)
def mvm(core: Core, out: Array, a: Array, axes: int, zero: int, accumulate: bool) -> Step:
    """out [P.., M] (+)= (a [P.., K..] - zero) @ weights [K, M], for blocks of the first axis."""
    depth, inner, columns = math.prod(a.shape[axes:]), math.prod(a.shape[1:axes]), out.shape[-1]
    rows = max(1, PATCH // max(1, inner * depth))
    kind = core.exact
    blocks = [(a[i : i + rows], out[i : i + rows]) for i in range(0, a.shape[0], rows)]
    most = min(rows, a.shape[0]) * inner
    wide = np.dtype(kind).itemsize // 4
    patches, results = core.scratch.reserve(0, most * depth * wide), core.scratch.reserve(1, most * columns * wide)

    def step() -> None:
        weights, patch, result = core.weights, patches().view(kind), results().view(kind)
        for source, target in blocks:
            count = source.shape[0] * inner
            x = patch[: count * depth]
            np.copyto(x.reshape(source.shape), source)
            if zero:
                np.subtract(x, zero, out=x)
            y = np.matmul(x.reshape(count, depth), weights, out=result[: count * columns].reshape(count, columns))
            y = y.reshape(target.shape)
            if accumulate:
                np.add(target, y.astype(np.int32), out=target)
            else:
                np.copyto(target, y, casting="unsafe")

    return step
