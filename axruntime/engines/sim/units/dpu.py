"""The DPU: element-wise work, tables, softmax, normalization and resize."""

import math
from collections.abc import Callable

import numpy as np

from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.numerics import Array
from axforge.axruntime.engines.sim.core import BLOCK, AccessError, AccumulatorFinish, Core, Step, executes


@executes(Opcode.REQUANT)
def requant(core: Core, out: Array, a: Array, finish: AccumulatorFinish) -> Step:
    """out = epilogue(float32(a + bias) * multiplier), for blocks of the first axis."""
    bias, multiplier = finish.bias, finish.multiplier
    rows = max(1, BLOCK // max(1, math.prod(a.shape[1:])))
    parts = range(0, a.shape[0], rows) if a.ndim else range(1)

    def part(view: Array | None, r: int) -> Array | None:
        return view if view is None or not view.ndim else view[r : r + rows]

    blocks = [(part(out, r), part(a, r), part(bias, r), part(multiplier, r)) for r in parts]

    def step() -> None:
        finish.ready()
        for y, x, b, m in blocks:
            assert x is not None
            assert y is not None
            assert m is not None
            t = (x + b if b is not None else x).astype(np.float32)
            t *= m
            finish.store(t, y)

    return step


@executes(Opcode.TABLE)
def table(core: Core, out: Array, a: Array, b: Array) -> Step:
    """out = b[a + 128]."""

    def step() -> None:
        # bytes.translate is the fastest byte table Python has; it counts from 0, codes from -128
        order = np.roll(b, -128).tobytes()
        np.copyto(out, np.frombuffer(a.tobytes().translate(order), np.int8).reshape(a.shape))

    return step


@executes(Opcode.ADD)
def add(
    core: Core,
    out: Array,
    a: Array,
    b: Array,
    zero_a: int,
    zero_b: int,
    scale_a: float,
    scale_b: float,
    finish: AccumulatorFinish,
) -> Step:
    """out = epilogue((a - zero_a) * scale_a + (b - zero_b) * scale_b)."""
    za, zb, ma, mb = np.float32(zero_a), np.float32(zero_b), np.float32(scale_a), np.float32(scale_b)

    def block(y: Array, x: Array, w: Array) -> None:
        t = (x.astype(np.float32) - za) * ma
        finish.store(np.asarray(t + (w.astype(np.float32) - zb) * mb), y)

    return _blocked(block, finish, out, a, b)


@executes(Opcode.MUL)
def mul(core: Core, out: Array, a: Array, b: Array, zero_a: int, zero_b: int, scale: float, finish: AccumulatorFinish) -> Step:
    """out = epilogue((a - zero_a) * (b - zero_b) * scale)."""
    za, zb, m = np.float32(zero_a), np.float32(zero_b), np.float32(scale)

    def block(y: Array, x: Array, w: Array) -> None:
        t = (x.astype(np.float32) - za) * (w.astype(np.float32) - zb)
        finish.store(np.asarray(t * m), y)

    return _blocked(block, finish, out, a, b)


def _blocked(block: Callable[[Array, Array, Array], None], finish: AccumulatorFinish, out: Array, a: Array, b: Array) -> Step:
    """Run `block` over parts of the first axis that stay in cache."""
    if not out.ndim:
        parts = [(out, a, b)]
    else:
        rows = max(1, BLOCK // max(1, math.prod(out.shape[1:])))
        parts = [(out[r : r + rows], a[r : r + rows], b[r : r + rows]) for r in range(0, out.shape[0], rows)]

    def step() -> None:
        finish.ready()
        for y, x, w in parts:
            block(y, x, w)

    return step


@executes(Opcode.SOFTMAX)
def softmax(core: Core, out: Array, a: Array, b: Array, scale: float, finish: AccumulatorFinish) -> Step:
    """out = epilogue(e / sum(e) * scale) along the last axis, e = b[max(a) - a]."""
    m = np.float32(scale)

    def step() -> None:
        finish.ready()
        wide = a.astype(np.int32)
        e = b[wide.max(axis=-1, keepdims=True) - wide]
        total = e.sum(axis=-1, keepdims=True, dtype=np.int32)
        finish.store(e.astype(np.float32) / total.astype(np.float32) * m, out)

    return step


@executes(Opcode.NORMALIZE)
def normalize(core: Core, out: Array, a: Array, b: Array, epsilon: float, finish: AccumulatorFinish) -> Step:
    """out = epilogue((N * a - sum(a)) * r * b[0] + b[1]) along the last axis, r = 1 / sqrt(N * sum(a * a) - sum(a)**2 + epsilon).

    r is computed in float64 and rounded to float32; it is 0 where the root is of nothing.
    """
    count = a.shape[-1]

    def step() -> None:
        finish.ready()
        wide = a.astype(np.int64)
        total = wide.sum(axis=-1, keepdims=True)
        spread = (count * (wide * wide).sum(axis=-1, keepdims=True) - total * total).astype(np.float64) + np.float64(epsilon)
        root = np.sqrt(spread, out=np.full_like(spread, np.inf), where=spread > 0)
        t = (count * wide - total).astype(np.float32) * np.divide(1, root).astype(np.float32)
        finish.store(t * b[0] + b[1], out)

    return step


@executes(Opcode.RESIZE)
def resize(core: Core, out: Array, a: Array, b: Array, c: Array, zero: int, first: int) -> Step:
    """out [H, W, C] = weighed sums of four neighbours in a - zero, whose row 0 is row `first` of the image."""

    def step() -> None:
        x = a.astype(np.int32) - zero
        (h0, h1, v0, v1), (w0, w1, u0, u1) = b, c
        if min(h0.min(), h1.min()) < first or max(h0.max(), h1.max()) >= first + x.shape[0]:
            raise AccessError("a resize reads rows that were not loaded")
        if min(w0.min(), w1.min()) < 0 or max(w0.max(), w1.max()) >= x.shape[1]:
            raise AccessError("a resize reads columns that do not exist")
        rows = x[h0 - first] * v0[:, None, None] + x[h1 - first] * v1[:, None, None]
        np.copyto(out, rows[:, w0] * u0[:, None] + rows[:, w1] * u1[:, None])

    return step
