"""Runs a fused graph with `numerics.py`: the plainest engine there is, and the one all others must equal."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir, numerics
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.ir import Epilogue, Graph, quant_of
from axforge.axcompiler.islands import Islands, from_real, to_real

Array = NDArray[Any]


class Reference:
    """A graph made ready to run. `run` may be called any number of times."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._islands = Islands(graph)

    def run(self, feeds: Mapping[str, Array], *, raw: bool = False) -> dict[str, Array]:
        """Outputs by name. Quantized inputs may be given as float32 (they are quantized) or as int8 codes.

        raw: give quantized outputs as int8 codes rather than dequantized float32.
        """
        values = self.run_all(feeds)
        outs = {name: values[name] for name in self.graph.outputs}
        return outs if raw else {name: to_real(value, self.graph.tensors[name]) for name, value in outs.items()}

    def run_all(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every tensor of the graph by name, as codes."""
        values: dict[str, Array] = {n: np.asarray(self.graph.constants[n]) for n in self.graph.tensors if n in self.graph.constants}
        values |= entry_codes(self.graph, feeds)
        for op in self.graph.ops:
            operands = [values[name] for name in op.inputs]
            if isinstance(op, ir.Island):
                results = self._islands.run(op, operands)
            else:
                results = [_RULES[type(op)](self.graph, op, *operands)]
            values.update(zip(op.outputs, results, strict=True))
        return values


def entry_codes(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The graph's inputs as it takes them: codes where quantized. Raises AxforgeError on a missing or misshapen feed."""
    values: dict[str, Array] = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if name not in feeds:
            raise AxforgeError(f"input '{name}' is missing", where=graph.name, fix=f"Inputs are: {', '.join(graph.inputs)}.")
        value = np.asarray(feeds[name])
        if len(value.shape) != len(tensor.shape) or any(d not in (-1, v) for d, v in zip(tensor.shape, value.shape, strict=True)):
            raise AxforgeError(f"input '{name}' has shape {list(value.shape)} and must have {list(tensor.shape)}", where=graph.name)
        values[name] = value if value.dtype == np.int8 or not tensor.quant else from_real(value, tensor)
    return values


def _finish(graph: Graph, t: Array, epilogue: Epilogue) -> Array:
    table = graph.constants[epilogue.table] if epilogue.table is not None else None
    return numerics.requantize(t, epilogue.zero_point, epilogue.lo, epilogue.hi, table)  # type: ignore[arg-type]


def _zero(graph: Graph, op: ir.Op, i: int = 0) -> int:
    return quant_of(graph, op.inputs[i]).zero_point


def _conv(g: Graph, op: ir.Conv, x: Array) -> Array:
    c: Mapping[str, Any] = g.constants
    acc = numerics.conv_accumulate(x, _zero(g, op), c[op.weight], c[op.bias], op.strides, op.dilations, op.pads, op.groups)
    return _finish(g, numerics.scale_channels(acc, c[op.multiplier], 1), op.epilogue)


def _conv_transpose(g: Graph, op: ir.ConvTranspose, x: Array) -> Array:
    c: Mapping[str, Any] = g.constants
    acc = numerics.conv_transpose_accumulate(
        x, _zero(g, op), c[op.weight], c[op.bias], op.strides, op.dilations, op.pads, op.output_padding, op.groups
    )
    return _finish(g, numerics.scale_channels(acc, c[op.multiplier], 1), op.epilogue)


def _fully_connected(g: Graph, op: ir.FullyConnected, x: Array) -> Array:
    c: Mapping[str, Any] = g.constants
    acc = numerics.fully_connected_accumulate(x, _zero(g, op), c[op.weight], c[op.bias])
    return _finish(g, numerics.scale_channels(acc, c[op.multiplier], acc.ndim - 1), op.epilogue)


def _matmul(g: Graph, op: ir.MatMul, a: Array, b: Array) -> Array:
    return _finish(g, numerics.matmul_scaled(a, _zero(g, op), b, _zero(g, op, 1), op.multiplier), op.epilogue)


def _add(g: Graph, op: ir.Add, a: Array, b: Array) -> Array:
    return _finish(g, numerics.add_scaled(a, _zero(g, op), b, _zero(g, op, 1), op.multipliers), op.epilogue)


def _mul(g: Graph, op: ir.Mul, a: Array, b: Array) -> Array:
    return _finish(g, numerics.mul_scaled(a, _zero(g, op), b, _zero(g, op, 1), op.multiplier), op.epilogue)


def _table(g: Graph, op: ir.Table, x: Array) -> Array:
    return numerics.lookup(x, g.constants[op.table])  # type: ignore[arg-type]


def _max_pool(g: Graph, op: ir.MaxPool, x: Array) -> Array:
    return numerics.max_pool(x, op.kernel, op.strides, op.dilations, op.pads)


def _average_pool(g: Graph, op: ir.AveragePool, x: Array) -> Array:
    t = numerics.average_pool_scaled(x, _zero(g, op), op.kernel, op.strides, op.pads, g.constants[op.multiplier])  # type: ignore[arg-type]
    return _finish(g, t, op.epilogue)


def _reduce_sum(g: Graph, op: ir.ReduceSum, x: Array) -> Array:
    return _finish(g, numerics.reduce_sum_scaled(x, _zero(g, op), op.axes, op.keepdims, op.multiplier), op.epilogue)


def _reduce_max(g: Graph, op: ir.ReduceMax, x: Array) -> Array:
    return np.asarray(x.max(axis=op.axes, keepdims=op.keepdims))


def _resize_linear(g: Graph, op: ir.ResizeLinear, x: Array) -> Array:
    c: Mapping[str, Any] = g.constants
    t = numerics.resize_linear_scaled(x, _zero(g, op), c[op.index_h], c[op.index_w], c[op.weight_h], c[op.weight_w], op.multiplier)
    return _finish(g, t, op.epilogue)


def _concat(g: Graph, op: ir.Concat, *xs: Array) -> Array:
    c: Mapping[str, Any] = g.constants
    parts = [x if t is None else numerics.lookup(x, c[t]) for x, t in zip(xs, op.tables, strict=True)]
    return np.concatenate(parts, axis=op.axis)


def _reshape(g: Graph, op: ir.Reshape, x: Array) -> Array:
    return x.reshape(g.tensors[op.outputs[0]].shape)


def _transpose(g: Graph, op: ir.Transpose, x: Array) -> Array:
    return x.transpose(op.perm)


def _slice(g: Graph, op: ir.Slice, x: Array) -> Array:
    for axis, (start, step, size) in enumerate(zip(op.starts, op.steps, g.tensors[op.outputs[0]].shape, strict=True)):
        x = np.take(x, start + step * np.arange(size), axis=axis)
    return x


def _take(g: Graph, op: ir.Take, x: Array) -> Array:
    return np.take(x, np.asarray(g.constants[op.index], np.int64), axis=op.axis)


def _pad(g: Graph, op: ir.Pad, x: Array) -> Array:
    return np.pad(x, tuple(zip(op.before, op.after, strict=True)), constant_values=op.value)


def _broadcast(g: Graph, op: ir.Broadcast, x: Array) -> Array:
    return np.broadcast_to(x, g.tensors[op.outputs[0]].shape).copy()


def _softmax(g: Graph, op: ir.Softmax, x: Array) -> Array:
    return _finish(g, numerics.softmax_scaled(x, op.axis, g.constants[op.exponent], op.multiplier), op.epilogue)  # type: ignore[arg-type]


_RULES: dict[type[ir.Op], Callable[..., Array]] = {
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
