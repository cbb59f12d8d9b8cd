"""Operators that pick, join or repeat codes: slice, split, gather, concat, pad, tile, expand."""

from typing import Any

import numpy as np
from onnx import NodeProto

from axforge.axcompiler import ir
from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.onnx_graph.net import attribute
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import Operator, Scale, always, first_codes, never, register

PAD_MODES = ("constant", "edge", "reflect", "wrap")


# ---------------------------------------------------------------- slice, split


def _slice_parameters(view: NodeView) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Start and step of every axis; starts count from the front and lie inside the operand.

    An axis that yields at most one element has step 1: a larger step would mean nothing, and spec refuses it.
    """
    shape = c.shape_of(view)
    given = c.ints(view, "starts", 1) or ()
    axes = c.ints(view, "axes", 3) or tuple(range(len(given)))
    ends = c.ints(view, "ends", 2) or ()
    steps = c.ints(view, "steps", 4) or (1,) * len(given)
    starts_out, steps_out = [0] * len(shape), [1] * len(shape)
    for axis, start, end, step in zip(axes, given, ends, steps, strict=True):
        taken = range(*slice(start, _python_end(end, step, shape[axis]), step).indices(shape[axis]))
        starts_out[axis] = taken.start if len(taken) else 0
        steps_out[axis] = step if len(taken) > 1 else 1
    return tuple(starts_out), tuple(steps_out)


def _python_end(end: int, step: int, size: int) -> int | None:
    """ONNX counts a negative end from the back as Python does, but one below -size means 'before the first'."""
    return None if step < 0 and end < -size else end


def _lower_slice(lw: GraphBuilder, view: NodeView) -> None:
    starts, steps = _slice_parameters(view)
    lw.copy(ir.Slice, lw.operand(view, 0), lw.result(view), starts=starts, steps=steps)


def _lower_split(lw: GraphBuilder, view: NodeView) -> None:
    x, rank = lw.operand(view, 0), len(c.shape_of(view))
    axis = c.normal_axis(int(c.attribute(view, "axis", 0)), rank)
    at = 0
    for i, name in enumerate(view.outputs):
        if not name:
            continue
        if lw.wanted(view, i):
            starts = tuple(at if a == axis else 0 for a in range(rank))
            lw.copy(ir.Slice, x, lw.result(view, i), starts=starts, steps=(1,) * rank)
        at += c.result_shape(view, i)[axis]


def all_parts_named(view: NodeView) -> bool:
    """Every part must have a name."""
    return all(view.outputs)


# ---------------------------------------------------------------- gather


def constant_indices(view: NodeView) -> bool:
    """The indices must be constant."""
    return view.constant(1) is not None and view.constant(0) is None


def _lower_gather(lw: GraphBuilder, view: NodeView) -> None:
    shape = c.shape_of(view)
    axis = c.normal_axis(int(c.attribute(view, "axis", 0)), len(shape))
    indices = np.asarray(view.constant(1))
    flat = indices.reshape(-1).astype(np.int64)
    flat = np.where(flat < 0, flat + shape[axis], flat)
    x = lw.taken(lw.operand(view, 0), axis, flat.astype(np.int32))
    lw.copy(ir.Reshape, x, lw.result(view))


# ---------------------------------------------------------------- concat


def _lower_concat(lw: GraphBuilder, view: NodeView) -> None:
    y = lw.result(view)
    operands = tuple(lw.operand(view, i, quant=lw.quant(y)) for i in range(len(view.inputs)))
    tables = tuple(lw.rescale_table(x, lw.quant(y)) for x in operands)
    axis = c.normal_axis(int(c.attribute(view, "axis", 1)), len(c.result_shape(view)))
    lw.emit(ir.Concat, operands, y, axis=axis, tables=tables)


# ---------------------------------------------------------------- pad


def pad_mode(view: NodeView) -> bool:
    """The mode must be constant, edge, reflect or wrap."""
    return c.attribute(view, "mode", "constant") in PAD_MODES


def pads_per_axis(view: NodeView) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(before, after), one an axis of the operand; negative where it crops."""
    rank = len(c.shape_of(view))
    pads = c.ints(view, "pads", 1) or ()
    axes = c.ints(view, "axes", 3)
    before, after = [0] * rank, [0] * rank
    for k, axis in enumerate(axes if axes is not None else range(rank)):
        before[axis], after[axis] = pads[k], pads[k + len(pads) // 2]
    return tuple(before), tuple(after)


def _lower_pad(lw: GraphBuilder, view: NodeView) -> None:
    before, after = pads_per_axis(view)
    x = lw.operand(view, 0)
    if min(*before, *after) < 0:
        sizes = tuple(n + min(b, 0) + min(a, 0) for n, b, a in zip(c.shape_of(view), before, after, strict=True))
        x = lw.sliced(x, tuple(max(-b, 0) for b in before), sizes)
        before, after = tuple(max(b, 0) for b in before), tuple(max(a, 0) for a in after)
    mode = c.attribute(view, "mode", "constant")
    if mode == "constant":
        value = float(view.attributes["value"]) if "value" in view.attributes else c.number(view.constant(2), 0.0)
        lw.copy(ir.Pad, x, lw.result(view), before=before, after=after, value=lw.code(x, value))
        return
    for axis, (b, a) in enumerate(zip(before, after, strict=True)):
        if b or a:
            x = lw.taken(x, axis, np.pad(np.arange(lw.shape(x)[axis], dtype=np.int32), (b, a), mode=mode))
    lw.copy(ir.Reshape, x, lw.result(view))


# ---------------------------------------------------------------- expand, tile


def _lower_expand(lw: GraphBuilder, view: NodeView) -> None:
    lw.copy(ir.Broadcast, lw.operand(view, 0), lw.result(view))


def _lower_tile(lw: GraphBuilder, view: NodeView) -> None:
    x = lw.operand(view, 0)
    for axis, (size, total) in enumerate(zip(c.shape_of(view), c.result_shape(view), strict=True)):
        if total != size:
            x = lw.taken(x, axis, (np.arange(total) % size).astype(np.int32))
    lw.copy(ir.Reshape, x, lw.result(view))


def _added_value(view: NodeView) -> float | None:
    """The finite constant that Pad brings in."""
    value = view.constant(2)
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 and np.isfinite(value).all() else None


def _padded_codes(proto: NodeProto) -> tuple[int, ...]:
    """Those of the image, and the code that it is padded with; without one it is padded with the code 0, which is another number."""
    if attribute(proto, "mode", b"constant") != b"constant":
        return (0,)
    return (0, 2) if len(proto.input) > 2 and proto.input[2] else ()


def _operator(name: str, lower: c.Lower, *extra: c.Constraint, rearranges: bool = False, **facts: Any) -> None:
    """An operator that copies codes. rearranges: whether it does so at the ends of a network too."""
    fact = always if rearranges else never
    register(
        Operator(
            onnx=(name,),
            constraints=(*c.BASIC, *extra),
            roles=c.data_first,
            lower=lower,
            scale=Scale.COPY,
            continues=fact,
            prepares=fact,
            **facts,
        )
    )


_operator("Slice", _lower_slice, c.parameters_constant, rearranges=True, copied_codes=first_codes)
_operator("Split", _lower_split, c.parameters_constant, all_parts_named, rearranges=True, copied_codes=first_codes)
_operator("Gather", _lower_gather, constant_indices, copied_codes=first_codes)
_operator("Pad", _lower_pad, c.parameters_constant, pad_mode, rearranges=True, added_value=_added_value, copied_codes=_padded_codes)
_operator("Expand", _lower_expand, c.parameters_constant, copied_codes=first_codes)
_operator("Tile", _lower_tile, c.parameters_constant, copied_codes=first_codes)
register(Operator(onnx=("Concat",), constraints=c.BASIC_ALL, roles=c.all_data, lower=_lower_concat, scale=Scale.JOIN, prepares=always))
