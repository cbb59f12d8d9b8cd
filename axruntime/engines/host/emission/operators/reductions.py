"""Sums, maxima and softmax over axes."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axruntime.engines.host.codegen.epilogue import Finish
from axforge.axruntime.engines.host.codegen.kernels.reduce import ReduceParams, ReduceSpec
from axforge.axruntime.engines.host.codegen.kernels.softmax import LANES, SoftmaxParams, SoftmaxSpec
from axforge.axruntime.engines.host.codegen.params import Ref
from axforge.axruntime.engines.host.codegen.walk import Walked
from axforge.axruntime.engines.host.emission.emitter import Emitter, emits, ref
from axforge.axruntime.engines.host.emission.images import average, window_params
from axforge.axruntime.engines.host.emission.layout import View


class Reduction(msgspec.Struct, frozen=True):
    """A reduction `op` of `reduce.ReduceSpec` over the axes `inner` of the operand `x`, which has as many axes as the result `y`.

    What else an operation has is said in `reduce.ReduceParams`.
    """

    op: str
    x: View
    y: View
    inner: tuple[int, ...]
    zero: int | None = None
    scale: np.float32 | None = None
    exponent: Ref | None = None
    epilogue: ir.Epilogue | None = None


def _emit(m: Emitter, name: str, r: Reduction) -> None:
    """The step of a reduction; none if the result has no elements."""
    if not math.prod(r.y.shape):
        return
    epilogue = None if r.epilogue is None else m.epilogue(r.epilogue)
    outer = [a for a in range(len(r.y.shape)) if a not in r.inner and r.y.shape[a] != 1]
    inner = [a for a in r.inner if r.x.shape[a] != 1 or r.op == "softmax"]

    def walked(view: View, axes: Sequence[int]) -> Walked[Ref, int, np.float32]:
        return Walked(at=ref(view), outer=tuple(view.strides[a] for a in outer), inner=tuple(view.strides[a] for a in axes))

    params: ReduceParams[Ref, int, np.float32] = ReduceParams(
        spec=ReduceSpec(r.op, len(outer), len(inner), epilogue is not None and epilogue.table is not None),
        outer=tuple(r.y.shape[a] for a in outer),
        inner=tuple(r.x.shape[a] for a in inner),
        x=walked(r.x, inner),
        y=walked(r.y, inner if r.op == "softmax" else ()),
        zero=r.zero,
        scale=r.scale,
        exponent=r.exponent,
        epilogue=epilogue,
    )
    m.step(name, params)


@emits(ir.ReduceSum)
def reduce_sum(m: Emitter, op: ir.ReduceSum) -> None:
    """Sums over whole images are an average pooling; others take one output at a time."""
    x = m.view(op.inputs[0])
    y = m.view(op.outputs[0]).keepdims(op.axes, len(x.shape))
    if math.prod(x.shape) and len(x.shape) == 4 and set(op.axes) == {2, 3} and x.strides[1] == y.strides[1] == 1:
        multipliers = m.consts.add(np.full(x.shape[2] * x.shape[3], op.multiplier, np.float32))
        average(m, op, x, y, window_params(x.shape[2:]), multipliers)
        return
    zero, scale = m.zero_byte(op.inputs[0]), np.float32(op.multiplier)
    _emit(m, op.name, Reduction("sum", x, y, op.axes, zero=zero, scale=scale, epilogue=op.epilogue))


@emits(ir.ReduceMax)
def reduce_max(m: Emitter, op: ir.ReduceMax) -> None:
    """The largest code."""
    x = m.view(op.inputs[0])
    _emit(m, op.name, Reduction("max", x, m.view(op.outputs[0]).keepdims(op.axes, len(x.shape)), op.axes))


@emits(ir.Softmax)
def softmax(m: Emitter, op: ir.Softmax) -> None:
    """Softmax along one axis: by vectors where the elements of a row are next to each other, else one element at a time."""
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    epilogue, scale = op.epilogue, np.float32(op.multiplier)
    exponent = np.asarray(m.graph.constants[op.exponent], np.int32)
    if y.size and x.strides[op.axis] == y.strides[op.axis] == 1:
        _softmax_of_rows(m, op, x, y, exponent)
        return
    table = m.consts.add(exponent)
    _emit(m, op.name, Reduction("softmax", x, y, (op.axis,), scale=scale, exponent=table, epilogue=epilogue))


def _softmax_of_rows(m: Emitter, op: ir.Softmax, x: View, y: View, exponent: NDArray[np.int32]) -> None:
    outer = [a for a in range(len(y.shape)) if a != op.axis and y.shape[a] != 1]
    count = y.shape[op.axis]

    def walked(view: View) -> Walked[Ref, int, np.float32]:
        return Walked(at=ref(view), outer=tuple(view.strides[a] for a in outer), inner=())

    small = abs(op.multiplier) < 2.0**31  # a quotient is at most 1
    finish = Finish(op.epilogue.table is not None, op.epilogue.lo > -128 or op.epilogue.hi < 127, small)
    params: SoftmaxParams[Ref, int, np.float32] = SoftmaxParams(
        spec=SoftmaxSpec(count < LANES, finish),
        outer=tuple(y.shape[a] for a in outer),
        count=count,
        x=walked(x),
        y=walked(y),
        low=m.consts.add((exponent & 255).astype(np.uint8)),
        high=m.consts.add((exponent >> 8).astype(np.uint8)),
        scale=np.float32(op.multiplier),
        epilogue=m.epilogue(op.epilogue),
    )
    m.step(op.name, params)
