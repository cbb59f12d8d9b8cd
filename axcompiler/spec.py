"""The rules a fused graph keeps, as code. `check` runs before and after every stage and on every file that is read,
so engines may rely on them: in particular no shape, index or constant in a checked graph leads outside a buffer.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.numerics import MAX_REDUCTION, RESIZE_BITS, SOFTMAX_BITS

Shape = tuple[int, ...]
MAX_ELEMENTS = 2**31
#: what a tensor may hold: types that NumPy and onnxruntime both have
DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")


class SpecError(Exception):
    """A rule is broken; the message names the operator or tensor and the rule."""


def _require(ok: bool, what: str) -> None:
    if not ok:
        raise SpecError(what)


def check(graph: Graph) -> None:
    """Raises SpecError at the first rule that `graph` breaks."""
    for name, tensor in graph.tensors.items():
        _tensor_rule(name, tensor)
    made = set(graph.inputs)
    _require(len(made) == len(graph.inputs), "an input is listed twice")
    for name in (*graph.inputs, *graph.outputs):
        _require(name in graph.tensors, f"input or output '{name}' is no tensor")
    for name in graph.tensors:
        if name in graph.constants:
            _require(name not in made, f"'{name}' is an input and a constant")
            _constant_operand_rule(graph, name)
            made.add(name)
    seen: set[str] = set()
    for op in graph.ops:
        _require(op.name not in seen, f"two operators are called '{op.name}'")
        seen.add(op.name)
        for name in op.inputs:
            _require(name in graph.tensors and name in made, f"{op.name}: operand '{name}' is not made before it is used")
        for name in op.outputs:
            _require(name in graph.tensors, f"{op.name}: result '{name}' is no tensor")
            _require(name not in made, f"{op.name}: '{name}' is made twice")
            made.add(name)
        try:
            _op_rule(graph, op)
        except SpecError as e:
            raise SpecError(f"{op.name} ({type(op).__name__}): {e}") from None
    for name in graph.outputs:
        _require(name in made, f"output '{name}' is never made")


def _tensor_rule(name: str, tensor: Tensor) -> None:
    known = tensor.quant is None and tensor.dtype != "int8"
    _require(tensor.dtype in DTYPES, f"tensor '{name}' has type '{tensor.dtype}'")
    least = -1 if known else 0
    _require(len(tensor.shape) <= 8 and all(least <= d < MAX_ELEMENTS for d in tensor.shape), f"tensor '{name}' has shape {tensor.shape}")
    _require(abs(math.prod(tensor.shape)) < MAX_ELEMENTS, f"tensor '{name}' of shape {tensor.shape} has more elements than 32 bits count")
    if tensor.quant:
        q = tensor.quant
        _require(tensor.dtype == "int8", f"tensor '{name}' has a scale but is {tensor.dtype}")
        _require(math.isfinite(q.scale) and q.scale > 0 and _is_f32(q.scale), f"tensor '{name}' has scale {q.scale}")
        _require(-128 <= q.zero_point <= 127, f"tensor '{name}' has zero point {q.zero_point}")


def _constant_operand_rule(graph: Graph, name: str) -> None:
    tensor, value = graph.tensors[name], graph.constants[name]
    _require(
        tensor.quant is not None and value.dtype == np.int8 and value.shape == tensor.shape,
        f"constant operand '{name}' is {value.dtype}{list(value.shape)}, its tensor says {tensor.dtype}{list(tensor.shape)}",
    )


def _is_f32(x: float) -> bool:
    return math.isfinite(x) and abs(x) <= 3.4e38 and float(np.float32(x)) == x


def _op_rule(graph: Graph, op: ir.AnyOp) -> None:
    if isinstance(op, ir.Island):
        _require(op.island in graph.islands, f"there is no island '{op.island}'")
        return
    arity = {ir.MatMul: 2, ir.Add: 2, ir.Mul: 2}.get(type(op), 1)
    _require(isinstance(op, ir.Concat) or len(op.inputs) == arity, f"has {len(op.inputs)} inputs")
    _require(len(op.outputs) == 1, f"has {len(op.outputs)} outputs")
    ins = [graph.tensors[n] for n in op.inputs]
    out = graph.tensors[op.outputs[0]]
    for name in (*op.inputs, *op.outputs):
        _require(graph.tensors[name].quant is not None, f"tensor '{name}' carries no scale and zero point")
    expected = _RULES[type(op)](graph, op, *ins)
    _require(out.shape == expected, f"the result has shape {out.shape} and should have {expected}")
    if isinstance(op, _SAME_QUANT):
        _require(all(t.quant == out.quant for t in ins), "copies codes, so scale and zero point must be the same in and out")
    epilogue = getattr(op, "epilogue", None)
    if epilogue is not None:
        assert out.quant is not None
        _epilogue_rule(graph, epilogue, out.quant)


_SAME_QUANT = (ir.MaxPool, ir.ReduceMax, ir.Reshape, ir.Transpose, ir.Slice, ir.Take, ir.Pad, ir.Broadcast)


def _epilogue_rule(graph: Graph, e: Epilogue, out: Quant) -> None:
    _require(-128 <= e.lo <= e.hi <= 127 and -128 <= e.zero_point <= 127, f"bounds {e.lo}..{e.hi}, zero point {e.zero_point}")
    if e.table is None:
        _require(e.zero_point == out.zero_point, "the zero point differs from the result's")
    else:
        _constant(graph, e.table, "int8", (256,))


def _constant(graph: Graph, name: str, dtype: str, shape: Shape) -> Any:
    _require(name in graph.constants, f"there is no constant '{name}'")
    value = graph.constants[name]
    _require(
        value.dtype.name == dtype and value.shape == shape,
        f"constant '{name}' is {value.dtype.name}{list(value.shape)} and should be {dtype}{list(shape)}",
    )
    return value


def _multipliers(graph: Graph, name: str, shape: Shape) -> None:
    value = _constant(graph, name, "float32", shape)
    _require(bool(np.isfinite(value).all()), f"constant '{name}' has entries that are not finite")


def _pair_rule(*pairs: Sequence[int]) -> None:
    _require(all(v >= 1 for pair in pairs for v in pair), "a kernel, stride or dilation is below 1")


def _spatial(shape: Shape, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]) -> tuple[int, int]:
    _require(len(shape) == 4, "the operand must have 4 axes (N, C, H, W)")
    _pair_rule(kernel, strides, dilations)
    _require(all(p >= 0 for p in pads), "padding is negative")
    top, left, bottom, right = pads
    sizes = []
    for size, before, after, k, s, d in zip(shape[2:], (top, left), (bottom, right), kernel, strides, dilations, strict=True):
        span = (k - 1) * d + 1
        _require(size + before + after >= span, "the window is larger than the padded image")
        sizes.append((size + before + after - span) // s + 1)
    _room(*shape[:2], shape[2] + top + bottom, shape[3] + left + right)
    return sizes[0], sizes[1]


def _room(*shape: int) -> None:
    """What an engine may hold in between is bounded as tensors are."""
    _require(math.prod(shape) < MAX_ELEMENTS, f"an intermediate of shape {shape} has more elements than 32 bits count")


def _conv(g: Graph, op: ir.Conv, x: Tensor) -> Shape:
    _require(op.weight in g.constants and g.constants[op.weight].ndim == 4, f"weight '{op.weight}' must have 4 axes")
    m, cg, kh, kw = g.constants[op.weight].shape
    _constant(g, op.weight, "int8", (m, cg, kh, kw))
    _constant(g, op.bias, "int32", (m,))
    _multipliers(g, op.multiplier, (m,))
    oh, ow = _spatial(x.shape, (kh, kw), op.strides, op.dilations, op.pads)
    _require(op.groups >= 1 and m % op.groups == 0 and x.shape[1] == cg * op.groups, "channels do not match weight and groups")
    _require(cg * kh * kw <= MAX_REDUCTION, f"sums {cg * kh * kw} products, at most {MAX_REDUCTION} fit 32 bits")
    return (x.shape[0], m, oh, ow)


def _conv_transpose(g: Graph, op: ir.ConvTranspose, x: Tensor) -> Shape:
    _require(op.weight in g.constants and g.constants[op.weight].ndim == 4, f"weight '{op.weight}' must have 4 axes")
    _require(len(x.shape) == 4, "the operand must have 4 axes (N, C, H, W)")
    c, mg, kh, kw = g.constants[op.weight].shape
    _constant(g, op.weight, "int8", (c, mg, kh, kw))
    _pair_rule((kh, kw), op.strides, op.dilations)
    _require(op.groups >= 1 and c % op.groups == 0 and x.shape[1] == c, "channels do not match weight and groups")
    m = mg * op.groups
    _constant(g, op.bias, "int32", (m,))
    _multipliers(g, op.multiplier, (m,))
    _require(all(p >= 0 for p in (*op.pads, *op.output_padding)), "padding is negative")
    _require(c // op.groups * kh * kw <= MAX_REDUCTION, "too many products are summed to fit 32 bits")
    top, left, bottom, right = op.pads
    sizes = [
        (size - 1) * s + (k - 1) * d + 1 + extra - before - after
        for size, s, k, d, extra, before, after in zip(
            x.shape[2:], op.strides, (kh, kw), op.dilations, op.output_padding, (top, left), (bottom, right), strict=True
        )
    ]
    _require(min(sizes) >= 1, "the padding leaves nothing")
    _room(x.shape[0], m, sizes[0] + top + bottom, sizes[1] + left + right)
    return (x.shape[0], m, sizes[0], sizes[1])


def _fully_connected(g: Graph, op: ir.FullyConnected, x: Tensor) -> Shape:
    _require(len(x.shape) >= 1 and op.weight in g.constants and g.constants[op.weight].ndim == 2, f"weight '{op.weight}' must have 2 axes")
    m, k = g.constants[op.weight].shape
    _constant(g, op.weight, "int8", (m, k))
    _constant(g, op.bias, "int32", (m,))
    _multipliers(g, op.multiplier, (m,))
    _require(x.shape[-1] == k and k <= MAX_REDUCTION, f"the operand's last axis is {x.shape[-1]}, the weight's {k}")
    return (*x.shape[:-1], m)


def _broadcast_shape(*shapes: Shape) -> Shape:
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        raise SpecError(f"shapes {' and '.join(map(str, shapes))} do not broadcast") from None


def _matmul(g: Graph, op: ir.MatMul, a: Tensor, b: Tensor) -> Shape:
    _require(len(a.shape) >= 2 and len(b.shape) >= 2 and a.shape[-1] == b.shape[-2], f"shapes {a.shape} and {b.shape} do not multiply")
    _require(a.shape[-1] <= MAX_REDUCTION // 2 and _is_f32(op.multiplier), "too many products, or a bad multiplier")
    return (*_broadcast_shape(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])


def _add(g: Graph, op: ir.Add, a: Tensor, b: Tensor) -> Shape:
    _require(all(_is_f32(m) for m in op.multipliers), "a multiplier is no float32 value")
    return _broadcast_shape(a.shape, b.shape)


def _mul(g: Graph, op: ir.Mul, a: Tensor, b: Tensor) -> Shape:
    _require(_is_f32(op.multiplier), "the multiplier is no float32 value")
    return _broadcast_shape(a.shape, b.shape)


def _table(g: Graph, op: ir.Table, x: Tensor) -> Shape:
    _constant(g, op.table, "int8", (256,))
    return x.shape


def _max_pool(g: Graph, op: ir.MaxPool, x: Tensor) -> Shape:
    return (*x.shape[:2], *_spatial(x.shape, op.kernel, op.strides, op.dilations, op.pads))


def _average_pool(g: Graph, op: ir.AveragePool, x: Tensor) -> Shape:
    _pair_rule(op.kernel)
    _multipliers(g, op.multiplier, (op.kernel[0] * op.kernel[1],))
    _require(op.kernel[0] * op.kernel[1] < 2**23, "the window is too large to sum in 32 bits")
    return (*x.shape[:2], *_spatial(x.shape, op.kernel, op.strides, (1, 1), op.pads))


def _reduced(axes: tuple[int, ...], keepdims: bool, shape: Shape) -> Shape:
    _require(len(set(axes)) == len(axes) and all(0 <= a < len(shape) for a in axes), f"axes {axes} do not fit shape {shape}")
    return tuple(1 if i in axes else d for i, d in enumerate(shape) if keepdims or i not in axes)


def _reduce_sum(g: Graph, op: ir.ReduceSum, x: Tensor) -> Shape:
    _require(_is_f32(op.multiplier), "the multiplier is no float32 value")
    _require(math.prod(x.shape[a] for a in op.axes if a < len(x.shape)) < 2**23, "too many elements to sum in 32 bits")
    return _reduced(op.axes, op.keepdims, x.shape)


def _reduce_max(g: Graph, op: ir.ReduceMax, x: Tensor) -> Shape:
    return _reduced(op.axes, op.keepdims, x.shape)


def _resize_linear(g: Graph, op: ir.ResizeLinear, x: Tensor) -> Shape:
    _require(len(x.shape) == 4 and _is_f32(op.multiplier), "needs 4 axes and a float32 multiplier")
    sizes = []
    for index, weight, size in ((op.index_h, op.weight_h, x.shape[2]), (op.index_w, op.weight_w, x.shape[3])):
        _require(index in g.constants and g.constants[index].ndim == 2, f"there is no index '{index}'")
        out = g.constants[index].shape[1]
        _index_rule(_constant(g, index, "int32", (2, out)), size)
        w = _constant(g, weight, "int32", (2, out))
        _require(bool((w >= 0).all() and (w.sum(axis=0) == 1 << RESIZE_BITS).all()), f"weights '{weight}' do not sum to {1 << RESIZE_BITS}")
        sizes.append(out)
    return (*x.shape[:2], sizes[0], sizes[1])


def _index_rule(index: Any, size: int) -> None:
    _require(bool(((index >= 0) & (index < size)).all()), "an index lies outside the operand")


def _concat(g: Graph, op: ir.Concat, *xs: Tensor) -> Shape:
    _require(len(xs) >= 1 and len(op.tables) == len(xs), "needs one table entry an operand")
    first = xs[0].shape
    _require(0 <= op.axis < len(first), f"has no axis {op.axis}")
    out = g.tensors[op.outputs[0]]
    for x, table in zip(xs, op.tables, strict=True):
        same = len(x.shape) == len(first) and all(i == op.axis or a == b for i, (a, b) in enumerate(zip(x.shape, first, strict=True)))
        _require(same, f"operand shapes {x.shape} and {first} differ off the axis")
        if table is None:
            _require(x.quant == out.quant, "an operand of another scale needs a table")
        else:
            _constant(g, table, "int8", (256,))
    return (*first[: op.axis], sum(x.shape[op.axis] for x in xs), *first[op.axis + 1 :])


def _reshape(g: Graph, op: ir.Reshape, x: Tensor) -> Shape:
    shape = g.tensors[op.outputs[0]].shape
    _require(math.prod(shape) == math.prod(x.shape), f"{x.shape} and {shape} differ in size")
    return shape


def _transpose(g: Graph, op: ir.Transpose, x: Tensor) -> Shape:
    _require(sorted(op.perm) == list(range(len(x.shape))), f"perm {op.perm} does not fit shape {x.shape}")
    return tuple(x.shape[p] for p in op.perm)


def _slice(g: Graph, op: ir.Slice, x: Tensor) -> Shape:
    shape = g.tensors[op.outputs[0]].shape
    _require(len(op.starts) == len(op.steps) == len(shape) == len(x.shape), "needs a start and a step an axis")
    for size, n, start, step in zip(x.shape, shape, op.starts, op.steps, strict=True):
        _require(n > 1 or step == 1, "an axis of at most one element must have step 1")  # the step becomes a stride of the view
        last = start + step * max(n - 1, 0)
        _require(step != 0 and 0 <= start < max(size, 1) and 0 <= last < max(size, 1), "reads outside the operand")
    return shape


def _take(g: Graph, op: ir.Take, x: Tensor) -> Shape:
    _require(0 <= op.axis < len(x.shape), f"has no axis {op.axis}")
    _require(op.index in g.constants and g.constants[op.index].ndim == 1, f"there is no index '{op.index}'")
    index = _constant(g, op.index, "int32", g.constants[op.index].shape)
    _index_rule(index, x.shape[op.axis])
    return (*x.shape[: op.axis], len(index), *x.shape[op.axis + 1 :])


def _pad(g: Graph, op: ir.Pad, x: Tensor) -> Shape:
    _require(len(op.before) == len(op.after) == len(x.shape) and -128 <= op.value <= 127, "needs a pad an axis and an int8 value")
    _require(all(p >= 0 for p in (*op.before, *op.after)), "padding is negative")
    return tuple(b + d + a for b, d, a in zip(op.before, x.shape, op.after, strict=True))


def _broadcast(g: Graph, op: ir.Broadcast, x: Tensor) -> Shape:
    shape = g.tensors[op.outputs[0]].shape
    _require(_broadcast_shape(x.shape, shape) == shape, f"{x.shape} does not broadcast to {shape}")
    return shape


def _softmax(g: Graph, op: ir.Softmax, x: Tensor) -> Shape:
    _require(0 <= op.axis < len(x.shape) and _is_f32(op.multiplier), "needs an axis of the operand and a float32 multiplier")
    e = _constant(g, op.exponent, "int32", (256,))
    _require(int(e[0]) == 1 << SOFTMAX_BITS and bool((e >= 0).all() and (np.diff(e) <= 0).all()), "the exponentials must fall from 2**15")
    _require(x.shape[op.axis] < 1 << (31 - SOFTMAX_BITS), "the axis is too long to sum in 32 bits")
    return x.shape


_RULES: dict[type[ir.Op], Callable[..., Shape]] = {
    ir.Conv: _conv,
    ir.ConvTranspose: _conv_transpose,
    ir.FullyConnected: _fully_connected,
    ir.MatMul: _matmul,
    ir.Add: _add,
    ir.Mul: _mul,
    ir.Table: _table,
    ir.MaxPool: _max_pool,
    ir.AveragePool: _average_pool,
    ir.ReduceSum: _reduce_sum,
    ir.ReduceMax: _reduce_max,
    ir.ResizeLinear: _resize_linear,
    ir.Concat: _concat,
    ir.Reshape: _reshape,
    ir.Transpose: _transpose,
    ir.Slice: _slice,
    ir.Take: _take,
    ir.Pad: _pad,
    ir.Broadcast: _broadcast,
    ir.Softmax: _softmax,
}
