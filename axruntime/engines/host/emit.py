"""One function an operator: steps from a fused graph's operators. `EMITTERS` is the table."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph, quant_of
from axforge.axruntime.engines.host.codegen.border import BorderSpec
from axforge.axruntime.engines.host.codegen.epilogue import Finish
from axforge.axruntime.engines.host.codegen.kit import float_bits
from axforge.axruntime.engines.host.codegen.nd import OPS, NdSpec
from axforge.axruntime.engines.host.codegen.reduce import ReduceSpec
from axforge.axruntime.engines.host.codegen.spatial import SpatialSpec
from axforge.axruntime.engines.host.features import Isa
from axforge.axruntime.engines.host.layout import Layouts, Root, View, dense_strides, is_flat
from axforge.axruntime.engines.host.steps import Constants, IslandStep, Key, Ref, Step, code_bytes, table_bytes

IDENTITY = ir.Epilogue(zero_point=-128, lo=-128, hi=127)


class Emitter:
    """Collects the steps of one graph for one path."""

    def __init__(self, graph: Graph, isa: Isa, layouts: Layouts) -> None:
        self.graph, self.isa, self.layouts = graph, isa, layouts
        self.consts = Constants()
        self.steps: list[Step | IslandStep] = []
        self._constant_views: dict[str, View] = {}
        self._temporaries = 0
        self._filled: set[str] = set()

    # ------------------------------------------------------------ memory

    def view(self, name: str) -> View:
        """Where tensor `name` lies; constants are laid out on first use (root '')."""
        if name not in self.graph.constants:
            return self.layouts.views[name]
        if name not in self._constant_views:
            codes = code_bytes(self.graph.constants[name])
            shape = self.graph.tensors[name].shape
            stored = codes.transpose(0, 2, 3, 1) if len(shape) == 4 else codes
            self._constant_views[name] = View("", self.consts.add(stored).offset, shape, dense_strides(shape))
        return self._constant_views[name]

    def temporary(self, shape: tuple[int, ...], border: tuple[int, int, int, int] = (0, 0, 0, 0), fill: int = 0) -> View:
        """A buffer that lives from its first to its last step."""
        name = f"%{self._temporaries}"
        self._temporaries += 1
        strides = dense_strides(shape, border)
        size = shape[0] * strides[0] if len(shape) == 4 else math.prod(shape)
        offset = border[0] * strides[2] + border[1] * strides[3] if len(shape) == 4 else 0
        view = View(name, offset, shape, strides)
        self.layouts.roots[name] = Root(name, size, view, border, fill)
        return view

    def flat(self, name: str, view: View, shape: tuple[int, ...]) -> View:
        """`view` in row-major order (copied if it is not) and seen with `shape`."""
        if not is_flat(view):
            copy = self.temporary((math.prod(view.shape),))
            dense = View(copy.root, 0, view.shape, row_major(view.shape))
            self.nd(name, "copy", [view], dense)
            view = dense
        return View(view.root, view.offset, shape, row_major(shape))

    # ------------------------------------------------------------ steps

    def step(self, name: str, key: Key, operands: dict[str, Ref], numbers: dict[str, int], writes: Sequence[str], macs: int = 0) -> None:
        reads = tuple(sorted({r.root for r in operands.values() if r.root and r.root not in writes}))
        for root in writes:
            self._fill_border(name, self.layouts.roots[root])
        self.steps.append(Step(name, key, operands, numbers, macs, reads, tuple(writes)))

    def _fill_border(self, name: str, root: Root) -> None:
        """Before a buffer is first written: its border becomes the zero point."""
        if not any(root.border) or root.name in self._filled:
            return
        self._filled.add(root.name)
        n, c, h, _ = root.view.shape
        step = root.view.strides[2]
        top, left, bottom, right = root.border
        numbers = {"images": n, "rows": top + h + bottom, "above": top, "below": top + h, "bytes": step, "left": left * c}
        numbers |= {"right": right * c, "step": step, "fill": root.fill}
        border = Step(name + ":border", ("border", BorderSpec()), {"y": Ref(root.name, 0)}, numbers, 0, (), (root.name,), True)
        self.steps.append(border)

    def epilogue(self, e: ir.Epilogue) -> tuple[dict[str, Ref], dict[str, int]]:
        """Operands and numbers every kernel with an epilogue takes."""
        lo, hi = float(e.lo - e.zero_point), float(e.hi - e.zero_point)
        numbers = {"lo": float_bits(lo), "hi": float_bits(hi), "shift": e.zero_point + 128}
        operands = {} if e.table is None else {"table": self.table(e.table)}
        return operands, numbers

    def table(self, name: str) -> Ref:
        return self.consts.add(table_bytes(self.graph.constants[name]))

    def nd(
        self,
        name: str,
        op: str,
        xs: Sequence[View],
        y: View,
        *,
        epilogue: ir.Epilogue = IDENTITY,
        shift: int | None = None,
        zeros: Sequence[int] = (),
        scales: Sequence[float] = (),
        taken: dict[int, NDArray[np.int64]] | None = None,
        array: tuple[int, int] = (-1, -1),
        table: Ref | None = None,
    ) -> None:
        """An element-wise step over the shape of y. taken: axis -> byte offsets into operand 0; array: caller's array number of (x, y)."""
        taken = taken or {}
        axes, strides = _merge(y.shape, [x.strides for x in xs] + [y.strides], set(taken))
        sizes = [OPS[op][1]] * len(xs) + [OPS[op][2]]
        inner = "".join(_inner_class(s[-1], size, k < len(xs)) for k, (s, size) in enumerate(zip(strides, sizes, strict=True)))
        if axes[-1][0] == 1 and not axes[-1][1] & set(taken):
            inner = "c" * len(strides)
        flags = tuple(bool(a & set(taken)) for _, a in axes)
        small = op in ("add", "mul") and 255.0 * 255.0 * sum(abs(s) for s in scales) < 2.0**31
        finish = Finish(epilogue.table is not None, epilogue.lo > -128 or epilogue.hi < 127, small)
        order = taken[next(iter(axes[-1][1]))] if flags[-1] else None
        near = order is not None and order.size > 0 and order.min() >= 0 and order.max() < 128
        permute = self.isa.vbmi and op == "copy" and near and strides[-1][-1] == 1 and len(axes) > 1
        spec = NdSpec(op, len(axes) - 1, inner, flags, finish, permute)
        operands, numbers = self.epilogue(epilogue)
        numbers["n"] = axes[-1][0]
        numbers |= {f"d{i}": d for i, (d, _) in enumerate(axes[:-1])}
        arrays = [array[0], *[-1] * (len(xs) - 1), array[1]] if xs else [array[1]]
        labels = [*(f"x{j}" for j in range(len(xs))), "y"]
        for label, view, stride, arr in zip(labels, [*xs, y], strides, arrays, strict=True):
            operands[label] = Ref(view.root, view.offset, arr)
            numbers |= {f"{label}.s{i}": s for i, s in enumerate(stride[:-1])}
            numbers[f"{label}.s"] = stride[-1]
        for i, (_, axis) in enumerate(axes):
            if axis & set(taken):
                operands[f"t{i}"] = self.consts.add(taken[next(iter(axis))])
        if permute and order is not None:
            operands["order"] = self.consts.add(np.resize(order, -(-order.size // 64) * 64).astype(np.uint8))
        if table is not None:
            operands["table"] = table
        if shift is not None:
            numbers["shift"] = shift
        numbers |= {f"z{i}": z + 128 for i, z in enumerate(zeros)}
        numbers |= {f"m{i}": float_bits(m) for i, m in enumerate(scales)}
        if math.prod(y.shape):
            self.step(name, ("nd", spec), operands, numbers, [y.root] if array[1] < 0 else [])

    def zero(self, name: str) -> int:
        return quant_of(self.graph, name).zero_point


def _inner_class(stride: int, size: int, operand: bool) -> str:
    """'c' contiguous, '0' constant (operands only), 's' strided."""
    return "c" if stride == size else "0" if stride == 0 and operand else "s"


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    out, step = [], 1
    for d in reversed(shape):
        out.append(step)
        step *= max(d, 1)
    return tuple(reversed(out))


def _merge(
    shape: Sequence[int], strides: Sequence[Sequence[int]], fixed: set[int]
) -> tuple[list[tuple[int, set[int]]], list[tuple[int, ...]]]:
    """Axes ordered by the result's strides, size-1 axes dropped, axes that continue each other merged; `fixed` axes stay alone.

    Returns (size, original axes) and the strides of every operand.
    """
    order = sorted((i for i in range(len(shape)) if shape[i] != 1 or i in fixed), key=lambda i: -abs(strides[-1][i]))
    axes: list[tuple[int, set[int]]] = []
    rows: list[list[int]] = [[] for _ in strides]
    for i in order:
        joins = bool(axes) and i not in fixed and not axes[-1][1] & fixed
        if joins and all(row[-1] == s[i] * shape[i] for row, s in zip(rows, strides, strict=True)):
            axes[-1] = (axes[-1][0] * shape[i], axes[-1][1] | {i})
            for row, s in zip(rows, strides, strict=True):
                row[-1] = s[i]
            continue
        axes.append((shape[i], {i}))
        for row, s in zip(rows, strides, strict=True):
            row.append(s[i])
    if not axes:
        axes = [(1, set())]
        rows = [[0] for _ in strides]
    return axes, [tuple(r) for r in rows]


def broadcast_view(view: View, shape: tuple[int, ...]) -> View:
    """`view` repeated to `shape` by strides of zero."""
    extra = len(shape) - len(view.shape)
    strides = tuple(0 if d == 1 and shape[extra + i] != 1 else s for i, (d, s) in enumerate(zip(view.shape, view.strides, strict=True)))
    return View(view.root, view.offset, shape, (0,) * extra + strides)


# ---------------------------------------------------------------- element-wise


def _add(m: Emitter, op: ir.Add) -> None:
    y = m.view(op.outputs[0])
    xs = [broadcast_view(m.view(n), y.shape) for n in op.inputs]
    m.nd(op.name, "add", xs, y, epilogue=op.epilogue, zeros=[m.zero(n) for n in op.inputs], scales=op.multipliers)


def _mul(m: Emitter, op: ir.Mul) -> None:
    y = m.view(op.outputs[0])
    xs = [broadcast_view(m.view(n), y.shape) for n in op.inputs]
    m.nd(op.name, "mul", xs, y, epilogue=op.epilogue, zeros=[m.zero(n) for n in op.inputs], scales=[op.multiplier])


def _table(m: Emitter, op: ir.Table) -> None:
    m.nd(op.name, "table", [m.view(op.inputs[0])], m.view(op.outputs[0]), table=m.table(op.table))


# ---------------------------------------------------------------- movement


def _concat(m: Emitter, op: ir.Concat) -> None:
    y = m.view(op.outputs[0])
    at = 0
    for name, table in zip(op.inputs, op.tables, strict=True):
        x = m.view(name)
        part = View(y.root, y.offset + at * y.strides[op.axis], x.shape, y.strides)
        at += x.shape[op.axis]
        if table is not None:
            m.nd(op.name, "table", [x], part, table=m.table(table))
        elif x != part:
            m.nd(op.name, "copy", [x], part)


def _reshape(m: Emitter, op: ir.Reshape) -> None:
    y = m.view(op.outputs[0])
    x = m.view(op.inputs[0])
    if is_flat(y):
        m.nd(op.name, "copy", [x], View(y.root, y.offset, x.shape, row_major(x.shape)))
    else:
        m.nd(op.name, "copy", [m.flat(op.name, x, y.shape)], y)


def _transpose(m: Emitter, op: ir.Transpose) -> None:
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    m.nd(op.name, "copy", [View(x.root, x.offset, y.shape, tuple(x.strides[p] for p in op.perm))], y)


def _slice(m: Emitter, op: ir.Slice) -> None:
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    offset = x.offset + sum(a * s for a, s in zip(op.starts, x.strides, strict=True))
    strides = tuple(s * k for s, k in zip(x.strides, op.steps, strict=True))
    part = View(x.root, offset, y.shape, strides)
    if part != y:
        m.nd(op.name, "copy", [part], y)


def _take(m: Emitter, op: ir.Take) -> None:
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    index = np.asarray(m.graph.constants[op.index], np.int64) * x.strides[op.axis]
    strides = tuple(0 if i == op.axis else s for i, s in enumerate(x.strides))
    m.nd(op.name, "copy", [View(x.root, x.offset, y.shape, strides)], y, taken={op.axis: index})


def _pad(m: Emitter, op: ir.Pad) -> None:
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    m.nd(op.name, "fill", [], y, shift=op.value + 128)
    offset = y.offset + sum(b * s for b, s in zip(op.before, y.strides, strict=True))
    m.nd(op.name, "copy", [x], View(y.root, offset, x.shape, y.strides))


def _broadcast(m: Emitter, op: ir.Broadcast) -> None:
    y = m.view(op.outputs[0])
    m.nd(op.name, "copy", [broadcast_view(m.view(op.inputs[0]), y.shape)], y)


# ---------------------------------------------------------------- windows and reductions


def width_for(channels: int, widest: int) -> int:
    """Widest power of two that is no wider than the channels."""
    return min(widest, 1 << (channels.bit_length() - 1))


def image_numbers(x: View, y: View) -> dict[str, int]:
    """Sizes and strides of an image kernel; both tensors have channels next to each other."""
    n, c, h, w = x.shape
    numbers = {"n": n, "c": c, "h": h, "w": w, "oh": y.shape[2], "ow": y.shape[3]}
    numbers |= {"in_ns": x.strides[0], "in_rs": x.strides[2], "in_ps": x.strides[3]}
    return numbers | {"out_ns": y.strides[0], "out_rs": y.strides[2], "out_ps": y.strides[3]}


def window_numbers(kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]) -> dict[str, int]:
    values = (*kernel, *strides, *dilations, *pads[:2])
    return dict(zip(("kh", "kw", "sh", "sw", "dh", "dw", "pt", "pl"), values, strict=True))


def _spatial(m: Emitter, name: str, op: str, x: View, y: View, extra: dict[str, int], operands: dict[str, Ref], e: ir.Epilogue) -> None:
    more, numbers = m.epilogue(e)
    widest = 64 if op == "max" else 16
    spec = SpatialSpec(op, width_for(x.shape[1], widest), e.table is not None)
    operands = operands | more | {"x": Ref(x.root, x.offset), "y": Ref(y.root, y.offset)}
    m.step(name, ("spatial", spec), operands, numbers | image_numbers(x, y) | extra, [y.root])


def _max_pool(m: Emitter, op: ir.MaxPool) -> None:
    extra = window_numbers(op.kernel, op.strides, op.dilations, op.pads)
    _spatial(m, op.name, "max", m.view(op.inputs[0]), m.view(op.outputs[0]), extra, {}, IDENTITY)


def _average_pool(m: Emitter, op: ir.AveragePool) -> None:
    extra = window_numbers(op.kernel, op.strides, (1, 1), op.pads) | {"zero": m.zero(op.inputs[0]) + 128}
    operands = {"mult": m.consts.add(m.graph.constants[op.multiplier])}
    _spatial(m, op.name, "average", m.view(op.inputs[0]), m.view(op.outputs[0]), extra, operands, op.epilogue)


def _resize_linear(m: Emitter, op: ir.ResizeLinear) -> None:
    names = {"ih": op.index_h, "iw": op.index_w, "wh": op.weight_h, "ww": op.weight_w}
    operands = {k: m.consts.add(m.graph.constants[v]) for k, v in names.items()}
    extra = {"zero": m.zero(op.inputs[0]) + 128, "m": float_bits(op.multiplier)}
    _spatial(m, op.name, "resize", m.view(op.inputs[0]), m.view(op.outputs[0]), extra, operands, op.epilogue)


def _reduce(
    m: Emitter,
    name: str,
    op: str,
    xs: Sequence[View],
    y: View,
    outer: Sequence[int],
    inner: Sequence[int],
    e: ir.Epilogue,
    extra: dict[str, int],
) -> None:
    """xs, y: views that share their axes (size-1 strides are zero); outer, inner: axis numbers."""
    operands, numbers = m.epilogue(e)
    outer = [a for a in outer if y.shape[a] != 1]
    inner = [a for a in inner if xs[0].shape[a] != 1]
    spec = ReduceSpec(op, len(outer), len(inner), e.table is not None)
    numbers |= {f"d{i}": y.shape[a] for i, a in enumerate(outer)} | {f"r{i}": xs[0].shape[a] for i, a in enumerate(inner)}
    for label, view in zip([*(f"x{j}" for j in range(len(xs))), "y"], [*xs, y], strict=True):
        operands[label] = Ref(view.root, view.offset)
        numbers |= {f"{label}.s{i}": view.strides[a] for i, a in enumerate(outer)}
        numbers |= {f"{label}.r{i}": view.strides[a] for i, a in enumerate(inner) if label != "y"}
    if math.prod(y.shape):
        m.step(name, ("reduce", spec), operands, numbers | extra, [y.root])


def _kept(y: View, axes: Sequence[int], rank: int) -> View:
    """The result of a reduction with its reduced axes as size 1."""
    if len(y.shape) == rank:
        return y
    shape, strides, at = [], [], 0
    for i in range(rank):
        if i in axes:
            shape.append(1)
            strides.append(0)
        else:
            shape.append(y.shape[at])
            strides.append(y.strides[at])
            at += 1
    return View(y.root, y.offset, tuple(shape), tuple(strides))


def _reduce_sum(m: Emitter, op: ir.ReduceSum) -> None:
    x = m.view(op.inputs[0])
    y = _kept(m.view(op.outputs[0]), op.axes, len(x.shape))
    if math.prod(x.shape) and len(x.shape) == 4 and set(op.axes) == {2, 3}:
        count = x.shape[2] * x.shape[3]
        table = np.full(count, op.multiplier, np.float32)
        extra = window_numbers(x.shape[2:], (1, 1), (1, 1), (0, 0)) | {"zero": m.zero(op.inputs[0]) + 128}
        y = View(y.root, y.offset, y.shape, y.strides)
        if y.strides[1] == 1:
            _spatial(m, op.name, "average", x, y, extra, {"mult": m.consts.add(table)}, op.epilogue)
            return
    outer = [a for a in range(len(x.shape)) if a not in op.axes]
    extra = {"z0": m.zero(op.inputs[0]) + 128, "m": float_bits(op.multiplier)}
    _reduce(m, op.name, "sum", [x], y, outer, op.axes, op.epilogue, extra)


def _reduce_max(m: Emitter, op: ir.ReduceMax) -> None:
    x = m.view(op.inputs[0])
    y = _kept(m.view(op.outputs[0]), op.axes, len(x.shape))
    outer = [a for a in range(len(x.shape)) if a not in op.axes]
    _reduce(m, op.name, "max", [x], y, outer, op.axes, IDENTITY, {})


def _softmax(m: Emitter, op: ir.Softmax) -> None:
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    outer = [a for a in range(len(x.shape)) if a != op.axis]
    unit = View(y.root, y.offset, tuple(1 if a == op.axis else d for a, d in enumerate(y.shape)), y.strides)
    operands, numbers = m.epilogue(op.epilogue)
    spec = ReduceSpec("softmax", len(outer), 1, op.epilogue.table is not None)
    numbers |= {f"d{i}": unit.shape[a] for i, a in enumerate(outer)} | {"r0": x.shape[op.axis], "m": float_bits(op.multiplier)}
    for label, view in (("x0", x), ("y", y)):
        operands[label] = Ref(view.root, view.offset)
        numbers |= {f"{label}.s{i}": view.strides[a] for i, a in enumerate(outer)} | {f"{label}.r0": view.strides[op.axis]}
    operands["exp"] = m.consts.add(m.graph.constants[op.exponent])
    if math.prod(y.shape):
        m.step(op.name, ("reduce", spec), operands, numbers, [y.root])


def _matmul(m: Emitter, op: ir.MatMul) -> None:
    """One dot product an output element: a [..., I, 1, K] and b [..., 1, J, K] against y [..., I, J, 1]."""
    a, b, y = m.view(op.inputs[0]), m.view(op.inputs[1]), m.view(op.outputs[0])
    lead = y.shape[:-2]
    (i, k), j = a.shape[-2:], b.shape[-1]
    la = broadcast_view(View(a.root, a.offset, a.shape[:-2], a.strides[:-2]), lead)
    lb = broadcast_view(View(b.root, b.offset, b.shape[:-2], b.strides[:-2]), lead)
    shape = (*lead, i, j, k)
    xa = View(a.root, a.offset, shape, (*la.strides, a.strides[-2], 0, a.strides[-1]))
    xb = View(b.root, b.offset, shape, (*lb.strides, 0, b.strides[-1], b.strides[-2]))
    out = View(y.root, y.offset, (*lead, i, j, 1), (*y.strides, 0))
    extra = {"z0": m.zero(op.inputs[0]) + 128, "z1": m.zero(op.inputs[1]) + 128, "m": float_bits(op.multiplier)}
    rank = len(shape)
    _reduce(m, op.name, "dot", [xa, xb], out, range(rank - 1), [rank - 1], op.epilogue, extra)


def _island(m: Emitter, op: ir.Island) -> None:
    m.steps.append(IslandStep(op.name, op))


EMITTERS: dict[type[ir.Op], Callable[[Emitter, Any], None]] = {
    ir.Add: _add,
    ir.Mul: _mul,
    ir.Table: _table,
    ir.Concat: _concat,
    ir.Reshape: _reshape,
    ir.Transpose: _transpose,
    ir.Slice: _slice,
    ir.Take: _take,
    ir.Pad: _pad,
    ir.Broadcast: _broadcast,
    ir.MaxPool: _max_pool,
    ir.AveragePool: _average_pool,
    ir.ResizeLinear: _resize_linear,
    ir.ReduceSum: _reduce_sum,
    ir.ReduceMax: _reduce_max,
    ir.Softmax: _softmax,
    ir.MatMul: _matmul,
    ir.Island: _island,
}
