"""The layout of tensors in memory: padded ports for the host, words of channels inside, tensors that are parts of others."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.program import Port
from axforge.axcompiler.strides import Shape, reshaped, row_major
from axforge.axcompiler.tile.views import View

Halo = tuple[int, int, int, int]


@dataclass(frozen=True)
class TensorLayout:
    """The place of a tensor in the buffer of tensor `root` (itself, if it has one): offset and strides in bytes, logical axis order.

    halo: (top, left, bottom, right) pixels around it that hold its zero point.
    """

    root: str
    offset: int
    strides: Shape
    halo: Halo = (0, 0, 0, 0)


@dataclass(frozen=True)
class TensorLayouts:
    """of: by tensor. sizes: bytes of every root. ports: of those roots that the host writes or reads."""

    of: Mapping[str, TensorLayout]
    sizes: Mapping[str, int]
    ports: Mapping[str, Port]


def pitch(channels: int) -> int:
    """Bytes from pixel to pixel: whole words of 64; several small pixels share a word."""
    for small in (4, 8, 16, 32):
        if channels <= small:
            return small
    return up(channels, 64)


def up(n: int, step: int) -> int:
    """`n` rounded up to a multiple of `step`."""
    return (n + step - 1) // step * step


def host_tensors(graph: Graph) -> dict[str, bool]:
    """Quantized tensors that the host writes (True) or only reads (False), in order of first mention."""
    out: dict[str, bool] = {}
    for name in graph.inputs:
        out[name] = True
    for op in graph.ops:
        if isinstance(op, ir.Island):
            for name in op.inputs:
                out.setdefault(name, False)
            for name in op.outputs:
                out[name] = True
    for name in graph.outputs:
        out.setdefault(name, False)
    return {name: written for name, written in out.items() if graph.tensors[name].quant and name not in graph.constants}


def stem_of(graph: Graph, name: str) -> ir.Conv | None:
    """The convolution whose padding an input buffer may hold: the tensor's only reader."""
    users = [op for op in graph.ops if name in op.inputs]
    if len(users) == 1 and isinstance(users[0], ir.Conv) and name not in graph.outputs:
        return users[0]
    return None


def make_port(graph: Graph, name: str, written: bool) -> tuple[Port, TensorLayout]:
    """The padded NHWC buffer of a host tensor, and the layout of the tensor inside."""
    tensor = graph.tensors[name]
    assert tensor.quant
    zero, shape = tensor.quant.zero_point, tensor.shape
    if len(shape) != 4:
        *lead, c = shape or (1,)
        wide = max(64, up(c, 64))
        n = lead[0] if lead else 1
        rows, width = (1, 1) if len(lead) < 2 else (1 if len(lead) == 2 else math.prod(lead[1:-1]), lead[-1])
        strides = row_major((*lead, wide))[: len(shape)]
        return Port((n, rows, width, wide), (0, 0, 0, 0, 0, 0, 0, wide - c), zero), TensorLayout(name, 0, strides)
    n, c, h, w = shape
    stem = stem_of(graph, name) if written and c <= 4 else None
    top, left, bottom, right = stem.pads if stem else (0, 0, 0, 0)
    wide = 4 if written and c <= 4 else max(64, up(c, 64))
    full_w = left + w + right
    if wide == 4:
        full_w = up(full_w * 4, 64) // 4
    padded = (n, top + h + bottom, full_w, wide)
    row = full_w * wide
    strides = (padded[1] * row, 1, row, wide)
    pads = (0, 0, top, bottom, left, full_w - left - w, 0, wide - c)
    halo = (top, left, bottom, full_w - left - w)
    return Port(padded, pads, zero), TensorLayout(name, top * row + left * wide, strides, halo)


def matrix_stacks(graph: Graph) -> set[str]:
    """Tensors of four axes that are stacks of matrices, as in attention, instead of images.

    A product makes or reads them, and nothing that computes over rows and columns of pixels does.
    """
    stacks: set[str] = set()
    images: set[str] = set()
    for op in graph.ops:
        names = [*op.inputs, *op.outputs]
        if isinstance(op, ir.MatMul):
            stacks.update(names)
        elif not isinstance(op, ir.Softmax | ir.Reshape | ir.Transpose | ir.Slice | ir.Add | ir.Mul | ir.Table):
            images.update(names)
    return {name for name in stacks - images if len(graph.tensors[name].shape) == 4}


def internal_layout(shape: Shape, image: bool) -> tuple[Shape, int]:
    """Logical strides and bytes of a tensor that only the AIPU touches: images as N, H, W, padded C; all else row-major."""
    if not image:
        return row_major(shape), max(1, math.prod(shape))
    n, c, h, w = shape
    p = pitch(c)
    return (h * w * p, 1, w * p, p), max(1, n * h * w * p)


class _Planner:
    """Decides which tensors share a buffer."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.hosts, self.stacks = graph, host_tensors(graph), matrix_stacks(graph)
        self.of: dict[str, TensorLayout] = {}
        self.sizes: dict[str, int] = {}
        self.ports: dict[str, Port] = {}

    def movable(self, name: str) -> bool:
        """Whether a tensor may be a part of another: a quantized activation that the host does not see."""
        tensor = self.graph.tensors[name]
        return tensor.quant is not None and name not in self.graph.constants and name not in self.hosts and 0 not in tensor.shape

    def own(self, name: str) -> TensorLayout:
        """The layout of `name`, in a buffer of its own unless it was put into another."""
        if name in self.of:
            return self.of[name]
        if name in self.hosts:
            self.ports[name], self.of[name] = make_port(self.graph, name, self.hosts[name])
            self.sizes[name] = max(1, math.prod(self.ports[name].shape))
        else:
            shape = self.graph.tensors[name].shape
            strides, self.sizes[name] = internal_layout(shape, len(shape) == 4 and name not in self.stacks)
            self.of[name] = TensorLayout(name, 0, strides)
        return self.of[name]

    def join(self, op: ir.Concat) -> None:
        """Operands of a concatenation are made where it needs them: [a][b] are parts of [a b]."""
        whole, at = self.own(op.outputs[0]), 0
        for name, table in zip(op.inputs, op.tables, strict=True):
            if table is None and self.movable(name) and name not in self.of:
                self.of[name] = TensorLayout(whole.root, whole.offset + at * whole.strides[op.axis], whole.strides)
            at += self.graph.tensors[name].shape[op.axis]

    def look_through(self, op: ir.Slice | ir.Reshape) -> None:
        """A slice, and a reshape that strides can express, are other views of their operand."""
        x, y = op.inputs[0], op.outputs[0]
        if y in self.of or not self.movable(y) or x in self.graph.constants:
            return
        source = self.own(x)
        view = View(0, source.offset, self.graph.tensors[x].shape, source.strides)
        shape = self.graph.tensors[y].shape
        seen = sliced(view, op, shape) if isinstance(op, ir.Slice) else reshaped(view, shape)
        if seen is not None:
            self.of[y] = TensorLayout(source.root, seen.offset, seen.strides)


def sliced(view: View, op: ir.Slice, shape: Shape) -> View:
    """A slice as a view."""
    for axis, (start, step) in enumerate(zip(op.starts, op.steps, strict=True)):
        view = view.cut(axis, start, shape[axis], step)
    return view


def layouts(graph: Graph) -> TensorLayouts:
    """TensorLayouts of all quantized activations."""
    planner = _Planner(graph)
    for op in reversed(graph.ops):
        if isinstance(op, ir.Concat) and graph.tensors[op.outputs[0]].quant:
            planner.join(op)
    for op in graph.ops:
        if isinstance(op, ir.Slice | ir.Reshape):
            planner.look_through(op)
    for name, tensor in graph.tensors.items():
        if tensor.quant and name not in graph.constants:
            planner.own(name)
    return TensorLayouts(planner.of, planner.sizes, planner.ports)
