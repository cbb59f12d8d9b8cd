"""The DWPU: depthwise sums and pooling over windows."""

import math

import numpy as np

from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.numerics import Array
from axforge.axruntime.engines.sim.core import BLOCK, Core, Step, executes

#: windows of at most so many elements are reduced element by element, which is quicker than an axis reduction
SMALL_WINDOW = 64


@executes(Opcode.DWCONV)
def dwconv(core: Core, out: Array, a: Array, b: Array) -> Step:
    """out [H, W, C] = sum over KH, KW of a [H, W, C, KH, KW] * b [C, KH, KW], for blocks of rows."""
    taps = [(i, j) for i in range(a.shape[3]) for j in range(a.shape[4])]
    wide = out.shape[1]
    rows = max(1, BLOCK // max(1, wide * out.shape[2]))
    kind = np.float32 if len(taps) * 255 * 128 < 1 << 24 else np.int32  # either is exact
    blocks = [(out[r : r + rows], [a[r : r + rows, :, :, i, j] for i, j in taps]) for r in range(0, out.shape[0], rows)]
    size = min(rows, out.shape[0]) * wide * out.shape[2]
    totals, products = core.scratch.reserve(0, size), core.scratch.reserve(1, size)

    def step() -> None:
        # weights repeated along a row, so that NumPy's inner loop is a row and not only its channels
        weights = np.repeat(b.astype(kind).transpose(1, 2, 0)[:, :, None], wide, axis=2).reshape(len(taps), wide, -1)
        for y, (first, *others) in blocks:
            t, p = (room()[: y.size].view(kind).reshape(y.shape) for room in (totals, products))
            np.copyto(t, first)
            np.multiply(t, weights[0], out=t)
            for x, w in zip(others, weights[1:], strict=True):
                np.copyto(p, x)
                np.multiply(p, w, out=p)
                np.add(t, p, out=t)
            np.copyto(y, t, casting="unsafe")

    return step


@executes(Opcode.REDUCE)
def reduce(core: Core, out: Array, a: Array, axes: int, largest: int) -> Step:
    """out = the sum or the largest of a over the axes after the first `axes`."""
    reduced = tuple(range(axes, a.ndim))
    if not largest:
        return lambda: np.copyto(out, a.sum(axis=reduced, dtype=np.int32))
    if math.prod(a.shape[axes:]) <= SMALL_WINDOW:
        return lambda: _largest(out, a, axes)
    return lambda: np.copyto(out, a.max(axis=reduced))


def _largest(out: Array, a: Array, kept: int) -> None:
    """out = the largest over the axes of `a` after the first `kept`, element by element of the window."""
    first, *others = np.ndindex(*a.shape[kept:])
    np.copyto(out, a[(..., *first)])
    for index in others:
        np.maximum(out, a[(..., *index)], out=out)
