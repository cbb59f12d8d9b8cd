"""A fused graph as an int8 .tflite, run by LiteRT's XNNPACK delegate, for `host_engine.py` (pip install ai-edge-litert).

The same layers, shapes, weights and scales as ours, in the form a converter would emit: NHWC int8 tensors, weights per channel,
padding that is neither SAME nor VALID as PAD, a SiLU table as LOGISTIC and MUL, another change of scale as QUANTIZE. The caller's
float32 is quantized in front and the results are dequantized, as every engine of the benchmark does. XNNPACK takes NHWC, so the
input is laid out and written once before the clock runs: no change of layout and no copy is charged to it. Rounding differs from
ours: answers are close, not equal.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tfl
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph, Quant, quant_of

Array = NDArray[np.generic]
Feeds = dict[str, Array]
CODE = tfl.BuiltinOperator
# The first version of each operator that has int8; all others are version 1.
VERSIONS = {CODE.CONV_2D: 3, CODE.DEPTHWISE_CONV_2D: 3, CODE.FULLY_CONNECTED: 4, CODE.RESHAPE: 1}
TYPES = {"float32": tfl.TensorType.FLOAT32, "int8": tfl.TensorType.INT8, "int32": tfl.TensorType.INT32}
LOGISTIC = Quant(scale=1 / 256, zero_point=-128)  # the only quantization TFLite allows there


class Unsupported(Exception):
    """The graph has something that this writer does not put into TFLite, or the result is not the same network."""


class Writer:
    """Builds one .tflite from a graph of convolutions, pools, sums and data movement. Raises Unsupported for all else."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: list[tfl.TensorT] = []
        self.buffers = [tfl.BufferT()]
        self.codes: dict[int, int] = {}
        self.ops: list[tfl.OperatorT] = []
        self.made: dict[str, int] = {}

    def model(self) -> bytes:
        """The file's bytes."""
        inputs = [self._input(name) for name in self.graph.inputs]
        skip = False
        for op, after in zip(self.graph.ops, (*self.graph.ops[1:], None), strict=True):
            if skip:
                skip = False
                continue
            if isinstance(op, ir.Take):
                self._resize(op, after)
                skip = True
            else:
                self._op(op)
        outputs = []
        for name in self.graph.outputs:
            target = self.tensor(name + ".float", self.tensors[self.made[name]].shape, "float32")
            self.emit(CODE.DEQUANTIZE, [self.made[name]], target)
            outputs.append(target)
        return self._pack(inputs, outputs)

    def _pack(self, inputs: list[int], outputs: list[int]) -> bytes:
        sub = tfl.SubGraphT()
        sub.tensors, sub.inputs, sub.outputs, sub.operators = self.tensors, inputs, outputs, self.ops
        model = tfl.ModelT()
        model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [sub], self.buffers, []
        for code in self.codes:
            entry = tfl.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), VERSIONS.get(code, 2)
            model.operatorCodes.append(entry)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    # ------------------------------------------------------------ pieces

    def tensor(self, name: str, shape: Iterable[int], dtype: str = "int8", quant: Quant | None = None) -> int:
        """A new tensor without data."""
        t = tfl.TensorT()
        t.name, t.shape, t.type, t.buffer = name, [int(d) for d in shape], TYPES[dtype], 0
        if quant:
            t.quantization = tfl.QuantizationParametersT()
            t.quantization.scale, t.quantization.zeroPoint = [quant.scale], [quant.zero_point]
        self.tensors.append(t)
        return len(self.tensors) - 1

    def constant(self, data: Array, scales: Array | None = None, axis: int = 0) -> int:
        """A new constant, with one scale for each element of `axis` if `scales` are given."""
        index = self.tensor(f"constant.{len(self.buffers)}", data.shape, data.dtype.name)
        buffer = tfl.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        self.buffers.append(buffer)
        self.tensors[index].buffer = len(self.buffers) - 1
        if scales is not None:
            q = tfl.QuantizationParametersT()
            q.scale, q.zeroPoint, q.quantizedDimension = scales.astype(np.float32), np.zeros(len(scales), np.int64), axis
            self.tensors[index].quantization = q
        return index

    def emit(self, code: int, inputs: list[int], output: int, options: object = None) -> None:
        """One operator; `options` is a table of the schema, whose union entry has the same name without the T."""
        op = tfl.OperatorT()
        op.opcodeIndex = self.codes.setdefault(code, len(self.codes))
        op.inputs, op.outputs = inputs, [output]
        if options is not None:
            op.builtinOptionsType = getattr(tfl.BuiltinOptions, type(options).__name__[:-1])
            op.builtinOptions = options
        self.ops.append(op)

    def output(self, name: str) -> int:
        """The tensor of the graph of that name, to be written."""
        self.made[name] = self.tensor(name, nhwc(self.graph.tensors[name].shape), "int8", quant_of(self.graph, name))
        return self.made[name]

    def _input(self, name: str) -> int:
        source = self.tensor(name + ".float", nhwc(self.graph.tensors[name].shape), "float32")
        self.emit(CODE.QUANTIZE, [source], self.output(name), tfl.QuantizeOptionsT())
        return source

    # ------------------------------------------------------------ operators

    def _op(self, op: ir.Op) -> None:
        makers: dict[type, Callable[..., None]] = {
            ir.Conv: self._conv,
            ir.FullyConnected: self._fully_connected,
            ir.Add: self._add,
            ir.Concat: self._concat,
            ir.MaxPool: self._max_pool,
            ir.AveragePool: self._mean,
            ir.Reshape: self._reshape,
            ir.Slice: self._slice,
        }
        if type(op) not in makers:
            raise Unsupported(f"benchmarks/xnnpack.py does not write operator {type(op).__name__} ('{op.name}') to TFLite.")
        missing = [name for name in op.inputs if name not in self.made]
        if missing:
            raise Unsupported(
                f"Operator '{op.name}' reads the constant operand '{missing[0]}', which benchmarks/xnnpack.py does not write."
            )
        makers[type(op)](op)

    def _conv(self, op: ir.Conv) -> None:
        weight = np.asarray(self.graph.constants[op.weight])
        depthwise = op.groups == len(weight) and weight.shape[1] == 1 and op.groups > 1
        if op.groups != 1 and not (depthwise and self.graph.tensors[op.inputs[0]].shape[1] == op.groups):
            raise Unsupported(f"Convolution '{op.name}' has {op.groups} groups; benchmarks/xnnpack.py writes one group, or depthwise.")
        x, padding = self._padded(op, weight.shape[2:])
        options = tfl.DepthwiseConv2DOptionsT() if depthwise else tfl.Conv2DOptionsT()
        if depthwise:
            options.depthMultiplier = 1
        options.padding = padding
        options.strideH, options.strideW = op.strides
        options.dilationHFactor, options.dilationWFactor = op.dilations
        if depthwise:
            self._product(op, CODE.DEPTHWISE_CONV_2D, x, weight.transpose(1, 2, 3, 0), 3, options)
        else:
            self._product(op, CODE.CONV_2D, x, weight.transpose(0, 2, 3, 1), 0, options)

    def _fully_connected(self, op: ir.FullyConnected) -> None:
        if len(self.graph.tensors[op.inputs[0]].shape) != 2:
            raise Unsupported(f"Operator '{op.name}' multiplies a tensor that is not a matrix; benchmarks/xnnpack.py does not write that.")
        options = tfl.FullyConnectedOptionsT()
        self._product(op, CODE.FULLY_CONNECTED, self.made[op.inputs[0]], np.asarray(self.graph.constants[op.weight]), 0, options)

    def _product(self, op: ir.Conv | ir.FullyConnected, code: int, x: int, weight: Array, axis: int, options: object) -> None:
        """A sum of products, its fused activation, and what its table stands for."""
        end = quant_of(self.graph, op.outputs[0])
        table = op.epilogue.table
        before = silu_scale(np.asarray(self.graph.constants[table]), op, end) if table else end
        source = quant_of(self.graph, op.inputs[0])
        sums = np.asarray(self.graph.constants[op.multiplier]).astype(np.float64) * before.scale  # scale of the int32 sums
        w = self.constant(weight, sums / source.scale, axis)
        b = self.constant(np.asarray(self.graph.constants[op.bias]), sums)
        options.fusedActivationFunction = activation(op.epilogue, before)  # type: ignore[attr-defined]
        if table is None:
            self.emit(code, [x, w, b], self.output(op.outputs[0]), options)
            return
        shape = nhwc(self.graph.tensors[op.outputs[0]].shape)
        y = self.tensor(op.name + ".sums", shape, "int8", before)
        gate = self.tensor(op.name + ".logistic", shape, "int8", LOGISTIC)
        self.emit(code, [x, w, b], y, options)
        self.emit(CODE.LOGISTIC, [y], gate)
        self.emit(CODE.MUL, [y, gate], self.output(op.outputs[0]), tfl.MulOptionsT())

    def _padded(self, op: ir.Conv | ir.MaxPool, kernel: tuple[int, ...]) -> tuple[int, int]:
        """The tensor to slide over, through PAD (which fills with the zero point) where needed, and TFLite's padding."""
        x = self.made[op.inputs[0]]
        if not any(op.pads):
            return x, tfl.Padding.VALID
        shape = self.graph.tensors[op.inputs[0]].shape
        if same_pads(shape[2:], kernel, op.strides, op.dilations) == op.pads:
            return x, tfl.Padding.SAME
        top, left, bottom, right = op.pads
        n, h, w, c = nhwc(shape)
        padded = self.tensor(op.name + ".padded", (n, h + top + bottom, w + left + right, c), "int8", quant_of(self.graph, op.inputs[0]))
        amounts = self.constant(np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
        self.emit(CODE.PAD, [x, amounts], padded, tfl.PadOptionsT())
        return padded, tfl.Padding.VALID

    def _add(self, op: ir.Add) -> None:
        if op.epilogue.table or min(op.multipliers) < 0:
            raise Unsupported(f"Sum '{op.name}' has a table or a negative term; benchmarks/xnnpack.py does not write that.")
        options = tfl.AddOptionsT()
        options.fusedActivationFunction = activation(op.epilogue, quant_of(self.graph, op.outputs[0]))
        self.emit(CODE.ADD, [self.made[n] for n in op.inputs], self.output(op.outputs[0]), options)

    def _concat(self, op: ir.Concat) -> None:
        common = quant_of(self.graph, op.outputs[0])
        operands = []
        for name, table in zip(op.inputs, op.tables, strict=True):
            operands.append(self.made[name])
            if table is not None:
                operands[-1] = self.tensor(f"{op.name}.{len(operands)}", nhwc(self.graph.tensors[name].shape), "int8", common)
                self.emit(CODE.QUANTIZE, [self.made[name]], operands[-1], tfl.QuantizeOptionsT())
        options = tfl.ConcatenationOptionsT()
        options.axis = (0, 3, 1, 2)[op.axis] if len(self.graph.tensors[op.outputs[0]].shape) == 4 else op.axis
        self.emit(CODE.CONCATENATION, operands, self.output(op.outputs[0]), options)

    def _max_pool(self, op: ir.MaxPool) -> None:
        x, padding = self._padded(op, op.kernel)
        if op.dilations != (1, 1) or (x != self.made[op.inputs[0]] and quant_of(self.graph, op.inputs[0]).zero_point != -128):
            raise Unsupported(f"Pool '{op.name}' has dilations, or padding that can win; benchmarks/xnnpack.py does not write that.")
        options = tfl.Pool2DOptionsT()
        options.padding = padding
        options.filterHeight, options.filterWidth = op.kernel
        options.strideH, options.strideW = op.strides
        self.emit(CODE.MAX_POOL_2D, [x], self.output(op.outputs[0]), options)

    def _mean(self, op: ir.AveragePool) -> None:
        if op.kernel != self.graph.tensors[op.inputs[0]].shape[2:] or any(op.pads) or op.epilogue.table:
            raise Unsupported(f"Average pool '{op.name}' is not over the whole image; benchmarks/xnnpack.py does not write that.")
        options = tfl.ReducerOptionsT()
        options.keepDims = True
        self.emit(CODE.MEAN, [self.made[op.inputs[0]], self.constant(np.array([1, 2], np.int32))], self.output(op.outputs[0]), options)

    def _reshape(self, op: ir.Reshape) -> None:
        shape = self.graph.tensors[op.outputs[0]].shape
        if self.graph.tensors[op.inputs[0]].shape[2:] != (1, 1) or len(shape) != 2:
            raise Unsupported(f"Reshape '{op.name}' is not the flattening of one pixel; benchmarks/xnnpack.py does not write that.")
        options = tfl.ReshapeOptionsT()
        options.newShape = list(shape)
        self.emit(CODE.RESHAPE, [self.made[op.inputs[0]], self.constant(np.array(shape, np.int32))], self.output(op.outputs[0]), options)

    def _slice(self, op: ir.Slice) -> None:
        if set(op.steps) != {1} or len(op.starts) != 4:
            raise Unsupported(f"Slice '{op.name}' has steps or is not of an image; benchmarks/xnnpack.py does not write that.")
        begin = self.constant(np.array(nhwc(op.starts), np.int32))
        size = self.constant(np.array(nhwc(self.graph.tensors[op.outputs[0]].shape), np.int32))
        self.emit(CODE.SLICE, [self.made[op.inputs[0]], begin, size], self.output(op.outputs[0]), tfl.SliceOptionsT())

    def _resize(self, op: ir.Take, after: ir.Op | None) -> None:
        """Two takes in a row, of every row and then of every column twice, as one nearest resize."""
        twice = isinstance(after, ir.Take) and after.inputs == op.outputs and (op.axis, after.axis) == (2, 3)
        for take in (op, after) if twice else ():
            assert isinstance(take, ir.Take)
            index = np.asarray(self.graph.constants[take.index])
            twice &= np.array_equal(index, np.arange(len(index)) // 2)
        if not twice or after is None:
            raise Unsupported(f"Operator '{op.name}' is not a nearest resize by two; benchmarks/xnnpack.py does not write that.")
        size = self.constant(np.array(self.graph.tensors[after.outputs[0]].shape[2:], np.int32))
        options = tfl.ResizeNearestNeighborOptionsT()
        self.emit(CODE.RESIZE_NEAREST_NEIGHBOR, [self.made[op.inputs[0]], size], self.output(after.outputs[0]), options)


def nhwc(shape: tuple[int, ...]) -> tuple[int, ...]:
    """N, C, H, W as N, H, W, C; other ranks as they are."""
    return (shape[0], shape[2], shape[3], shape[1]) if len(shape) == 4 else shape


def same_pads(image: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]) -> tuple[int, ...]:
    """What TFLite's SAME means here, as (top, left, bottom, right)."""
    before, behind = [], []
    for n, k, s, d in zip(image, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        before.append(total // 2)
        behind.append(total - total // 2)
    return (*before, *behind)


def activation(epilogue: ir.Epilogue, quant: Quant) -> int:
    """RELU6 or RELU where the bounds of the epilogue are those, else NONE."""
    if epilogue.table or max(epilogue.lo, -128) != quant.zero_point:
        return int(tfl.ActivationFunctionType.NONE)
    six = round(6 / quant.scale) + quant.zero_point
    return int(tfl.ActivationFunctionType.RELU6 if min(six, 127) == epilogue.hi and six <= 127 else tfl.ActivationFunctionType.RELU)


def silu_scale(table: Array, op: ir.Conv | ir.FullyConnected, end: Quant) -> Quant:
    """The quantization in front of a SiLU table, which the graph no longer says: the scale under which the table is SiLU."""
    codes = np.arange(-128, 128) - op.epilogue.zero_point
    real = (table.astype(np.float64) - end.zero_point) * end.scale
    most = (127 - end.zero_point) * end.scale
    top = int(np.flatnonzero(table != 127)[-1])  # beyond it the table is saturated and says nothing
    low, high = 0.0, 2.0 * (most + 1.0) / max(codes[top], 1)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if silu(codes * middle)[top] < real[top] else (low, middle)
    if np.abs(np.minimum(silu(codes * low), most) - real).max() > 2 * end.scale:
        raise Unsupported(f"The table of '{op.name}' is not a SiLU; benchmarks/xnnpack.py writes no other table.")
    return Quant(scale=float(low), zero_point=op.epilogue.zero_point)


def silu(x: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """x * sigmoid(x)."""
    return np.asarray(x / (1 + np.exp(-x)))


def runner(graph: Graph, path: Path, threads: int, feeds: Feeds, expected: Feeds) -> Callable[[], object]:
    """Writes `path` and gives what runs it once. Unsupported if its outputs correlate with `expected` by less than 0.9."""
    path.write_bytes(Writer(graph).model())
    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    for detail, name in zip(interpreter.get_input_details(), graph.inputs, strict=True):
        value = np.asarray(feeds[name])
        interpreter.set_tensor(detail["index"], np.ascontiguousarray(value.transpose(0, 2, 3, 1) if value.ndim == 4 else value))
    interpreter.invoke()
    for detail, name in zip(interpreter.get_output_details(), graph.outputs, strict=True):
        got = interpreter.get_tensor(detail["index"])
        alike = np.corrcoef((got.transpose(0, 3, 1, 2) if got.ndim == 4 else got).ravel(), np.asarray(expected[name]).ravel())[0, 1]
        if not alike >= 0.9:
            raise Unsupported(f"The .tflite is not the same network: its output '{name}' correlates with ours by {alike:.3f} only.")
    return interpreter.invoke
