"""Element-wise steps over strided views of any rank: arithmetic, tables, and all copies."""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.strides import dense, joinable, joined
from axforge.axruntime.engines.host.codegen.epilogue import EpilogueParams, Finish
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kernels.nd import OPS, NdParams, NdSpec, Strided
from axforge.axruntime.engines.host.codegen.params import Ref, TableRef
from axforge.axruntime.engines.host.emission.emitter import Emitter, ref
from axforge.axruntime.engines.host.emission.layout import View


class ElementwiseOperation(msgspec.Struct, frozen=True):
    """An operation `op` of `nd.OPS` on views of one shape.

    taken: axis -> the byte offset into operand 0 of every element of that axis, instead of its stride. value: the byte of 'fill'.
    zeros: zero_point + 128 of each operand; scales: its multiplier. Which of them an operation has is said in `nd.NdParams`.
    """

    op: str
    xs: Sequence[View]
    y: View
    taken: Mapping[int, NDArray[np.int64]] = msgspec.field(default_factory=dict)
    value: int | None = None
    table: Ref | None = None
    zeros: tuple[int, ...] = ()
    scales: tuple[np.float32, ...] = ()
    epilogue: ir.Epilogue | None = None

    def finish(self) -> Finish:
        """What the code has to know of the epilogue."""
        e = self.epilogue
        if e is None:
            return Finish(clamp=False)
        small = self.op in ("add", "mul") and 255.0 * 255.0 * sum(abs(float(s)) for s in self.scales) < 2.0**31
        return Finish(e.table is not None, e.lo > -128 or e.hi < 127, small)


def emit_elementwise(m: Emitter, name: str, e: ElementwiseOperation) -> None:
    """The step of an element-wise operation; none if the result has no elements."""
    if not math.prod(e.y.shape):
        return
    views, taken = merged([*e.xs, e.y], e.taken)
    offsets = taken[-1]
    order = _order(m.isa, e, views, offsets)
    spec = NdSpec(e.op, len(taken) - 1, _classes(e.op, views, offsets), tuple(t is not None for t in taken), e.finish(), order is not None)
    epilogue: EpilogueParams[Ref, int, np.float32] | None = None if e.epilogue is None else m.epilogue(e.epilogue)
    operands = tuple(Strided[Ref, int, np.float32](at=ref(v), outer=v.strides[:-1], inner=v.strides[-1]) for v in views)
    tables: tuple[TableRef | None, ...] = tuple(None if t is None else m.consts.add_offsets(t) for t in taken)
    params: NdParams[Ref, int, np.float32] = NdParams(
        spec=spec,
        n=views[-1].shape[-1],
        outer=views[-1].shape[:-1],
        xs=operands[:-1],
        y=operands[-1],
        tables=tables,
        order=None if order is None else m.consts.add(order),
        value=e.value,
        table=e.table,
        zeros=e.zeros,
        scales=e.scales,
        epilogue=epilogue,
    )
    m.step(name, params)


def merged(views: Sequence[View], taken: Mapping[int, NDArray[np.int64]]) -> tuple[list[View], list[NDArray[np.int64] | None]]:
    """The views with axes ordered by the last one's strides, without axes of size 1, and joined where all views allow.

    Axes with offsets stay alone; their offsets are returned in the order of the new axes. There is at least one axis.
    """
    y = views[-1]
    order = sorted(range(len(y.shape)), key=lambda i: -abs(y.strides[i]))
    ordered = [v.permute(order) for v in views]
    groups = joinable(ordered, [order.index(axis) for axis in taken])
    out = [joined(v, groups) for v in ordered]
    offsets = [taken.get(order[g[0]]) for g in groups]
    return (out, offsets) if groups else ([v.insert(0, 1) for v in out], [None])


def _classes(op: str, views: Sequence[View], offsets: NDArray[np.int64] | None) -> str:
    """Class of the inner axis of each view: 'c' contiguous, '0' constant (operands only), 's' strided."""
    if views[-1].shape[-1] == 1 and offsets is None:
        return "c" * len(views)
    _, size_in, size_out = OPS[op]
    operands = "".join("c" if v.strides[-1] == size_in else "0" if v.strides[-1] == 0 else "s" for v in views[:-1])
    return operands + ("c" if views[-1].strides[-1] == size_out else "s")


def _order(isa: Isa, e: ElementwiseOperation, views: Sequence[View], offsets: NDArray[np.int64] | None) -> NDArray[np.uint8] | None:
    """The offsets of the inner axis as bytes in whole vectors, if a permutation in a register can take them."""
    if offsets is None or not isa.vbmi or e.op != "copy" or len(views[-1].shape) < 2 or views[-1].strides[-1] != 1:
        return None
    if not offsets.size or offsets.min() < 0 or offsets.max() >= 128:
        return None
    return np.resize(offsets, -(-offsets.size // 64) * 64).astype(np.uint8)


def copy(m: Emitter, name: str, x: View, y: View) -> None:
    """Copies the elements of `x` to `y`, which has the same shape."""
    emit_elementwise(m, name, ElementwiseOperation("copy", [x], y))


def fill(m: Emitter, name: str, y: View, byte: int) -> None:
    """Sets every element of `y`."""
    emit_elementwise(m, name, ElementwiseOperation("fill", [], y, value=byte))


def look_up(m: Emitter, name: str, x: View, y: View, table: str) -> None:
    """y = table[x], by the constant `table`."""
    emit_elementwise(m, name, ElementwiseOperation("table", [x], y, table=m.table(table)))


def flat(m: Emitter, name: str, view: View, shape: tuple[int, ...]) -> View:
    """`view` in row-major order (copied if it is not) and with shape `shape`."""
    if not view.is_dense():
        buffer = m.temporary((math.prod(view.shape),))
        copy(m, name, view, dense(buffer.buffer, view.shape))
        view = buffer
    return dense(view.buffer, shape, offset=view.offset)
