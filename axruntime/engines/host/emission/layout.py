"""Where every int8 tensor is: byte strides inside a root buffer, shared buffers for concat and slice, borders for convolutions.

Inside the engine a code is a byte, code + 128. Images, tensors with four axes that are not `stacks`, are kept as N, H, W, C (channels
next to each other), all others in row-major order. A tensor that a padded convolution reads has a border of zero-point bytes around each
image. Operands of a concat are written straight into its result, and slices, transposes and reshapes are only views, where strides can
express it and their readers can walk them.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph, quant_of
from axforge.axcompiler.ir.ops.normalization import LayerNorm
from axforge.axcompiler.strides import StridedView, reshaped, row_major
from axforge.axruntime.engines.host.emission.stacks import stacks

Border = tuple[int, int, int, int]


#: the engine names its buffers
View = StridedView[str]


class Root(msgspec.Struct, frozen=True):
    """A buffer: its size in bytes, and the border around each of its images with the byte that fills it.

    array: -1 for a buffer of the arena, else the number of the caller's array that it is.
    """

    name: str
    size: int
    view: View
    border: Border = (0, 0, 0, 0)
    fill: int = 0
    array: int = -1


class _Window(msgspec.Struct, frozen=True):
    """A tensor is in `parent` at `starts` with `steps`."""

    parent: str
    starts: tuple[int, ...]
    steps: tuple[int, ...]

    def of(self, parent: View, shape: tuple[int, ...]) -> View:
        """The tensor's view."""
        return parent.window(self.starts, shape, self.steps)


class _Permuted(msgspec.Struct, frozen=True):
    """A tensor is `parent` with its axes in another order."""

    parent: str
    perm: tuple[int, ...]

    def of(self, parent: View, shape: tuple[int, ...]) -> View:
        """The tensor's view."""
        return parent.permute(self.perm)


class _Reshaped(msgspec.Struct, frozen=True):
    """A tensor is `parent` with another shape."""

    parent: str

    def of(self, parent: View, shape: tuple[int, ...]) -> View:
        """The tensor's view."""
        view = reshaped(parent, shape)
        assert view is not None
        return view


_Placement = _Window | _Permuted | _Reshaped


class Layouts(msgspec.Struct):
    """Views of all quantized tensors that are not constants. stacks: see `stacks.stacks`."""

    views: dict[str, View] = msgspec.field(default_factory=dict)
    roots: dict[str, Root] = msgspec.field(default_factory=dict)
    placed: dict[str, _Placement] = msgspec.field(default_factory=dict)
    stacks: frozenset[str] = frozenset()


def dense_strides(shape: tuple[int, ...], border: Border = (0, 0, 0, 0), stack: bool = False) -> tuple[int, ...]:
    """Byte strides of a tensor that has a buffer to itself. stack: it is no image, though it has four axes."""
    if len(shape) == 4 and not stack:
        _, c, h, w = shape
        row = (w + border[1] + border[3]) * c
        return (row * (h + border[0] + border[2]), 1, row, c)
    return row_major(shape)


def quantized(graph: Graph, name: str) -> bool:
    """Whether the engine keeps tensor `name` itself (islands keep the others)."""
    return graph.tensors[name].quant is not None


def layout(graph: Graph) -> Layouts:
    """Chooses placements, borders and strides."""
    out = Layouts(stacks=stacks(graph))
    producers = {o: op for op in graph.ops for o in op.outputs}
    for op in graph.ops:
        if isinstance(op, ir.Slice) and op.inputs[0] not in graph.constants:
            # a stride along a single element is never walked, but a border laid around it would be
            sizes = graph.tensors[op.outputs[0]].shape
            steps = tuple(step if n > 1 else 1 for step, n in zip(op.steps, sizes, strict=True))
            if _can_view(steps, op.outputs[0] in out.stacks):
                out.placed[op.outputs[0]] = _Window(op.inputs[0], op.starts, steps)
    for op in graph.ops:
        if isinstance(op, ir.Concat):
            _place_operands(graph, op, producers, out)
    borders = _borders(graph, out)
    for name, tensor in graph.tensors.items():
        if quantized(graph, name) and name not in graph.constants and name not in out.placed:
            border = borders.get(name, (0, 0, 0, 0))
            fill = quant_of(graph, name).zero_point + 128
            out.roots[name] = root_of(name, tensor.shape, border, fill, name in out.stacks)
    place_moves(graph, out, producers)
    for name in graph.tensors:
        if quantized(graph, name) and name not in graph.constants:
            _view(name, graph, out)
    return out


def root_of(name: str, shape: tuple[int, ...], border: Border = (0, 0, 0, 0), fill: int = 0, stack: bool = False) -> Root:
    """A buffer of the arena for one tensor."""
    strides = dense_strides(shape, border, stack)
    if len(shape) == 4 and not stack:
        size = shape[0] * strides[0]
        offset = border[0] * strides[2] + border[1] * strides[3]
    else:
        size, offset = math.prod(shape), 0
    return Root(name, size, View(name, offset, shape, strides), border, fill)


def _view(name: str, graph: Graph, out: Layouts) -> View:
    if name in out.views:
        return out.views[name]
    if name in out.roots:
        view = out.roots[name].view
    else:
        place = out.placed[name]
        view = place.of(_view(place.parent, graph, out), graph.tensors[name].shape)
    out.views[name] = view
    return view


def _can_view(steps: tuple[int, ...], stack: bool) -> bool:
    """Convolutions want channels next to each other, so only axes other than C may be stepped over."""
    return all(s > 0 for s in steps) and (len(steps) != 4 or stack or steps[1] == 1)


def _place_operands(graph: Graph, op: ir.Concat, producers: Mapping[str, ir.Op], out: Layouts) -> None:
    """Places each operand, or the tensor that a run of operands are the slices of, into the concat's result."""
    at, i = 0, 0
    rank = len(graph.tensors[op.outputs[0]].shape)
    while i < len(op.inputs):
        name = op.inputs[i]
        source, count = _slices_of_one(graph, op, i, producers)
        candidate = source if count else name
        # a slice inside another tensor, a constant, or something placed already has to be copied
        free = candidate not in graph.constants and candidate not in out.placed and not _inside(out, op.outputs[0], candidate)
        if free and all(t is None for t in op.tables[i : i + max(count, 1)]) and op.inputs.count(name) == 1:
            starts = tuple(at if a == op.axis else 0 for a in range(rank))
            out.placed[candidate] = _Window(op.outputs[0], starts, (1,) * rank)
        step = max(count, 1)
        at += sum(graph.tensors[n].shape[op.axis] for n in op.inputs[i : i + step])
        i += step


def _inside(out: Layouts, name: str, ancestor: str) -> bool:
    """Returns whether `name` is already in `ancestor`."""
    while name in out.placed:
        name = out.placed[name].parent
        if name == ancestor:
            return True
    return False


def _slices_of_one(graph: Graph, op: ir.Concat, i: int, producers: Mapping[str, ir.Op]) -> tuple[str, int]:
    """If operands i, i+1, ... are consecutive slices that together are one whole tensor: its name and their number."""
    source, at, n = "", 0, 0
    for name in op.inputs[i:]:
        made = producers.get(name)
        if not isinstance(made, ir.Slice) or (source and made.inputs[0] != source):
            break
        source = made.inputs[0]
        whole = graph.tensors[source].shape
        starts = tuple(at if a == op.axis else 0 for a in range(len(whole)))
        if made.starts != starts or any(s != 1 for s in made.steps):
            break
        at, n = at + graph.tensors[name].shape[op.axis], n + 1
        if at == whole[op.axis]:
            same = all(d == graph.tensors[name].shape[a] for a, d in enumerate(whole) if a != op.axis)
            return (source, n) if same else ("", 0)
    return "", 0


#: readers that walk any strides, if the elements of their last axis are next to each other
_WALKING = (
    ir.MatMul, ir.Table, ir.Add, ir.Mul, ir.Softmax, LayerNorm, ir.FullyConnected,
    ir.Reshape, ir.Transpose, ir.Slice, ir.Take, ir.Pad, ir.Broadcast, ir.Concat,
)  # fmt: skip
#: makers that can write so
_WRITING = (ir.MatMul, ir.Table, ir.Add, ir.Mul, ir.Softmax, LayerNorm)


def place_moves(graph: Graph, out: Layouts, producers: Mapping[str, ir.Op]) -> None:
    """Let transposes and reshapes move nothing: their operand is written in the order of the result, or the result is a view of it."""
    readers: dict[str, list[ir.Op]] = {}
    for op in graph.ops:
        for name in op.inputs:
            readers.setdefault(name, []).append(op)
    kept = {*graph.outputs, *graph.constants}
    for op in graph.ops:
        if not isinstance(op, ir.Transpose | ir.Reshape):
            continue
        (x,), (y,) = op.inputs, op.outputs
        if y not in out.roots or x in kept or not op.output_shape(graph) or 0 in op.output_shape(graph):
            continue
        if isinstance(op, ir.Transpose) and x in out.roots and len(readers[x]) == 1 and isinstance(producers.get(x), _WRITING):
            inverse = tuple(op.perm.index(axis) for axis in range(len(op.perm)))
            if out.roots[y].view.permute(inverse).strides[-1] == 1:
                _place(out, x, _Permuted(y, inverse))
                continue
        place = _Permuted(x, op.perm) if isinstance(op, ir.Transpose) else _Reshaped(x)
        view = _moved(graph, out, op)
        if view is not None and _walkable(view, y, readers):
            _place(out, y, place)


def _place(out: Layouts, name: str, place: _Placement) -> None:
    del out.roots[name]
    out.placed[name] = place


def _moved(graph: Graph, out: Layouts, op: ir.Transpose | ir.Reshape) -> View | None:
    """The result as a view of the operand, as things are; None if there is none."""
    trial = Layouts({}, out.roots, out.placed)
    x = _view(op.inputs[0], graph, trial)
    return x.permute(op.perm) if isinstance(op, ir.Transpose) else reshaped(x, op.output_shape(graph))


def _walkable(view: View, name: str, readers: Mapping[str, Sequence[ir.Op]]) -> bool:
    """Whether all readers, also those of slices, can take the view without a copy of it, or with the one copy that they save.

    (What leaves the engine is converted from any strides.)
    """
    mine = readers.get(name, ())
    if not all(isinstance(reader, _WALKING) for reader in mine):
        return False
    if not all(_walkable(view, reader.outputs[0], readers) for reader in mine if isinstance(reader, ir.Slice)):
        return False
    if view.strides[-1] == 1 or view.shape[-1] == 1:
        return True
    columns = len(view.shape) > 1 and view.strides[-2] == 1
    return columns and all(isinstance(reader, ir.MatMul) and reader.inputs[1] == name != reader.inputs[0] for reader in mine)


def _borders(graph: Graph, out: Layouts) -> dict[str, Border]:
    """Border of each root: the largest padding of the convolutions that read it or something in it."""
    borders: dict[str, Border] = {}
    for op in graph.ops:
        if not isinstance(op, ir.Conv) or not any(op.pads):
            continue
        name = op.inputs[0]
        if name in graph.constants or not border_fits(graph, name, out):
            continue
        while name in out.placed:
            name = out.placed[name].parent
        old = borders.get(name, (0, 0, 0, 0))
        borders[name] = (max(old[0], op.pads[0]), max(old[1], op.pads[1]), max(old[2], op.pads[2]), max(old[3], op.pads[3]))
    return borders


def border_fits(graph: Graph, name: str, out: Layouts) -> bool:
    """Whether a border around the root is a border around `name`: it is cut from the root along channels and images only."""
    while name in out.placed:
        place = out.placed[name]
        if not isinstance(place, _Window) or graph.tensors[name].shape[2:] != graph.tensors[place.parent].shape[2:]:
            return False
        name = place.parent
    return True
