"""Operators that only change the shape: the same codes in row-major order."""

from axforge.axcompiler import ir
from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.onnx_graph.views import NodeView
from axforge.axcompiler.operators import common as c
from axforge.axcompiler.operators.base import Fact, Operator, Scale, always, first_codes, never, no_codes, register


def inference(view: NodeView) -> bool:
    """Dropout must be in inference mode, without its mask."""
    mode = view.constant(2)
    left_out = len(view.inputs) < 3 or not view.inputs[2]
    return not any(view.outputs[1:]) and (left_out or (mode is not None and not mode.any()))


def _lower_reshape(lw: GraphBuilder, view: NodeView) -> None:
    lw.copy(ir.Reshape, lw.operand(view, 0), lw.result(view))


def _lower_transpose(lw: GraphBuilder, view: NodeView) -> None:
    perm = c.ints(view, "perm") or tuple(reversed(range(len(c.shape_of(view)))))
    lw.copy(ir.Transpose, lw.operand(view, 0), lw.result(view), perm=perm)


def _lower_depth_to_space(lw: GraphBuilder, view: NodeView) -> None:
    n, ch, h, w = c.shape_of(view)
    b = int(c.attribute(view, "blocksize", 1))
    depth = ch // (b * b)
    if c.attribute(view, "mode", "DCR") == "DCR":
        inner, perm = (n, b, b, depth, h, w), (0, 3, 4, 1, 5, 2)
    else:
        inner, perm = (n, depth, b, b, h, w), (0, 1, 4, 2, 5, 3)
    x = lw.transposed(lw.reshaped(lw.operand(view, 0), inner), perm)
    lw.copy(ir.Reshape, x, lw.result(view))


def _lower_space_to_depth(lw: GraphBuilder, view: NodeView) -> None:
    n, ch, h, w = c.shape_of(view)
    b = int(c.attribute(view, "blocksize", 1))
    inner = (n, ch, h // b, b, w // b, b)
    perm = (0, 3, 5, 1, 2, 4) if c.attribute(view, "mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    x = lw.transposed(lw.reshaped(lw.operand(view, 0), inner), perm)
    lw.copy(ir.Reshape, x, lw.result(view))


def four_axes(view: NodeView) -> bool:
    """The operand must have 4 axes (N, C, H, W)."""
    return len(c.shape_of(view)) == 4


def _keeps_last_size(view: NodeView) -> bool:
    return c.shape_of(view)[-1:] == c.result_shape(view)[-1:] != ()


def _keeps_last_axis(view: NodeView) -> bool:
    perm = c.ints(view, "perm") or ()
    return perm[-1:] == (len(perm) - 1,)


def _operator(
    names: tuple[str, ...],
    lower: c.Lower,
    *extra: c.Constraint,
    rearranges: bool = True,
    copies_codes: bool = True,
    keeps_rows: Fact = never,
) -> None:
    fact = always if rearranges else never
    register(
        Operator(
            onnx=names,
            constraints=(*c.BASIC, *extra),
            roles=c.data_first,
            lower=lower,
            scale=Scale.COPY,
            keeps_rows=keeps_rows,
            continues=fact,
            prepares=fact,
            copied_codes=first_codes if copies_codes else no_codes,
        )
    )


_operator(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _lower_reshape, c.parameters_constant, keeps_rows=_keeps_last_size)
_operator(("Identity",), _lower_reshape, c.parameters_constant, rearranges=False, keeps_rows=always)
_operator(("Dropout",), _lower_reshape, c.parameters_constant, inference, rearranges=False, copies_codes=False)
_operator(("Transpose",), _lower_transpose, keeps_rows=_keeps_last_axis)
_operator(("DepthToSpace",), _lower_depth_to_space, four_axes)
_operator(("SpaceToDepth",), _lower_space_to_depth, four_axes)
