"""An ONNX file as a proposal reads it: inputs, outputs with how the graph ends, and arithmetic on the input. Weights are not kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.heads import Head

#: Constants with more numbers than this are weights; smaller ones may be shapes, means or scales.
_LARGEST_CONSTANT = 4096
_WEIGHTS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
#: More parts than this are no head of a detector; a graph made to keep us busy could have billions.
_MOST_PARTS = 64
#: Operators whose result has the values of their first operand.
_MOVES = frozenset(
    {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear"}
)
#: Operators that move parts of their first operand; the other operands say which.
_PICKS = _MOVES | {"Slice", "Split", "Gather", "Expand", "Tile", "Resize", "Pad", "ReduceMax", "TopK"}
#: Where the tail of a graph begins: operators with weights, and those that only read a shape.
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"})
_INTEGERS = frozenset({TensorProto.INT64, TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.BOOL})


@dataclass(frozen=True)
class Input:
    """An input of the graph. shape: -1 where free. dtype: a NumPy name, '' for types that NumPy does not have."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Scaling:
    """What the graph does to its input first: x * scale + offset, one number for each channel or one for all."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    operators: tuple[str, ...]


@dataclass
class OnnxGraph:
    """The graph of the file at `path`, from which weights have been removed."""

    path: Path
    model: ModelProto
    _shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def producer(self) -> str:
        """The program that wrote the file, as it calls itself."""
        return self.model.producer_name

    @property
    def metadata(self) -> dict[str, str]:
        """The file's notes by key."""
        return {entry.key: entry.value for entry in self.model.metadata_props}

    @cached_property
    def constants(self) -> Mapping[str, TensorProto]:
        """Initializers and the values of Constant nodes, by name."""
        found = {tensor.name: tensor for tensor in self.model.graph.initializer}
        for node in self.model.graph.node:
            if node.op_type == "Constant" and node.output:
                values = [a.t for a in node.attribute if a.type == AttributeProto.TENSOR]
                found.update(zip(node.output[:1], values, strict=False))
        return found

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs that a caller gives: those without a value in the file."""
        return tuple(Input(v.name, _shape(v), _dtype(v)) for v in self.model.graph.input if v.name not in self.constants)

    def pin(self, name: str, shape: Sequence[int]) -> None:
        """Infer all shapes again for an input of this shape. What cannot be inferred stays unknown."""
        graph = self.model.graph
        for value in graph.input:
            if value.name == name:
                _set_shape(value, shape)
        del graph.value_info[:]
        declared = {value.name: _shape(value) for value in graph.output}
        for value in graph.output:
            if -1 in _shape(value):
                value.type.tensor_type.ClearField("shape")
        try:
            inferred = onnx.shape_inference.infer_shapes(self.model, data_prop=True).graph
        except Exception:  # the inference of a hostile graph raises a dozen unrelated classes; the shapes in the file remain
            inferred = graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        self._shapes = {value.name: _shape(value) for value in values if value.type.tensor_type.HasField("shape")}
        for name, shape_in_file in declared.items():
            self._shapes.setdefault(name, shape_in_file)

    def heads(self) -> tuple[Head, ...]:
        """The outputs, with the shapes that `pin` found."""
        return tuple(self._head(value) for value in self.model.graph.output)

    def _head(self, value: ValueInfoProto) -> Head:
        node = self._computing(value.name)
        shape = self._shapes.get(value.name, _shape(value))
        parts = self._joined(node) if node is not None and node.op_type == "Concat" else iter(())
        joined = tuple(islice(parts, _MOST_PARTS))
        integer = value.type.tensor_type.elem_type in _INTEGERS
        last = "" if node is None else node.op_type
        return Head(value.name, shape, integer, joined if min(joined, default=0) > 0 else (), last, self._tail(value.name))

    @cached_property
    def _makers(self) -> Mapping[str, NodeProto]:
        return {name: node for node in self.model.graph.node for name in node.output if name}

    def _computing(self, name: str) -> NodeProto | None:
        """The last operator before `name` that does not merely move values."""
        seen: set[str] = set()
        while (node := self._makers.get(name)) is not None and name not in seen:
            seen.add(name)
            if node.op_type not in _MOVES or not node.input:
                return node
            name = node.input[0]
        return None

    def _joined(self, concat: NodeProto, depth: int = 0) -> Iterator[int]:
        """Lengths of what `concat` joins along its axis, concatenations along the same axis taken apart; -1 where unknown."""
        axis = _axis(concat)
        for name in concat.input:
            node, shape = self._makers.get(name), self._length_of(name)
            if node is not None and node.op_type == "Concat" and _axis(node) == axis and depth < 4:
                yield from self._joined(node, depth + 1)
            else:
                yield shape[axis] if -len(shape) <= axis < len(shape) else -1

    def _length_of(self, name: str) -> tuple[int, ...]:
        return tuple(self.constants[name].dims) if name in self.constants else self._shapes.get(name, ())

    def _tail(self, name: str) -> frozenset[str]:
        """Types of the operators between the last layers with weights and the output `name`."""
        found: set[str] = set()
        seen: set[str] = set()
        left = [name]
        while left:
            name = left.pop()
            node = self._makers.get(name)
            if name in seen or node is None or node.op_type in _LAYERS or node.op_type in ("Shape", "Constant") or self._is_bias(node):
                continue
            seen.add(name)
            found.add(node.op_type)
            left += node.input[:1] if node.op_type in _PICKS else node.input
        return frozenset(found)

    def _is_bias(self, node: NodeProto) -> bool:
        """Whether `node` adds constants to what a layer gives, as exporters write a bias that the layer cannot hold."""
        before = [self._makers.get(name) for name in node.input]
        layers = [maker for maker in before if maker is not None and maker.op_type in _LAYERS]
        return node.op_type == "Add" and len(layers) == 1 and any(name in self.constants for name in node.input)

    def scaling(self, name: str, channels: int) -> Scaling | None:
        """Arithmetic with constants on the input `name` before anything else, as models do that normalise their input themselves."""
        scale, offset, operators = np.ones(1), np.zeros(1), []
        for _ in range(16):
            users = [node for node in self.model.graph.node if name in node.input]
            if len(users) != 1 or not users[0].output:
                break
            node = users[0]
            if node.op_type not in _MOVES:
                step = self._affine(node, name, channels)
                if step is None:
                    break
                scale, offset = scale * step[0], offset * step[0] + step[1]
                operators.append(node.op_type)
            name = node.output[0]
        return Scaling(tuple(scale.tolist()), tuple(offset.tolist()), tuple(operators)) if operators else None

    def _affine(self, node: NodeProto, name: str, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Factor and summand of an operator that applies constants to `name`; None when it does something else."""
        if node.op_type == "BatchNormalization" and len(node.input) == 5:
            values = [self._numbers(operand, channels) for operand in node.input[1:]]
            if any(v is None for v in values):
                return None
            gamma, beta, mean, variance = (v for v in values if v is not None)
            scale = gamma / np.sqrt(np.maximum(variance, 0) + 1e-5)
            return scale, beta - mean * scale
        if node.op_type not in ("Sub", "Add", "Mul", "Div") or len(node.input) != 2:
            return None
        first = node.input[0] == name
        value = self._numbers(node.input[1] if first else node.input[0], channels)
        if value is None or (not first and node.op_type in ("Sub", "Div")) or (node.op_type == "Div" and not value.all()):
            return None
        one, zero = np.ones(1), np.zeros(1)
        return {"Sub": (one, -value), "Add": (one, value), "Mul": (value, zero), "Div": (1 / value if value.all() else value, zero)}[
            node.op_type
        ]

    def _numbers(self, name: str, channels: int) -> np.ndarray | None:
        """A constant of one number, or of one for each channel, as float64; None when it is something else or not in the file."""
        tensor = self.constants.get(name)
        if tensor is None or prod(tensor.dims) not in (1, channels) or tensor.data_location == TensorProto.EXTERNAL:
            return None
        try:
            values = numpy_helper.to_array(tensor).astype(np.float64).ravel()
        except (ValueError, TypeError, KeyError):
            return None
        return values if np.isfinite(values).all() else None


def read_graph(path: Path) -> OnnxGraph:
    """The graph of the ONNX at `path`. External data is not needed. Raises AxforgeError for a file that is not an ONNX model."""
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except DecodeError as e:
        raise AxforgeError("This is not an ONNX file, or it is damaged.", where=str(path), fix="Export or copy it again.") from e
    except OSError as e:
        fix = "Check the path of the ONNX." if isinstance(e, FileNotFoundError) else ""
        raise AxforgeError(f"The file cannot be read: {e.strerror or e}.", where=str(path), fix=fix) from e
    if not model.graph.node or not model.graph.output:
        raise AxforgeError("This is not an ONNX file, or its graph is empty.", where=str(path), fix="Export or copy it again.")
    for tensor in model.graph.initializer:
        if prod(tensor.dims) > _LARGEST_CONSTANT:
            for name in _WEIGHTS:
                tensor.ClearField(name)
    return OnnxGraph(path, model)


def _shape(value: ValueInfoProto) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else -1 for d in dims)


def _set_shape(value: ValueInfoProto, shape: Sequence[int]) -> None:
    value.type.tensor_type.ClearField("shape")
    for length in shape:
        value.type.tensor_type.shape.dim.add().dim_value = length


def _dtype(value: ValueInfoProto) -> str:
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    except (KeyError, ValueError, TypeError):
        return ""


def _axis(concat: NodeProto) -> int:
    return next((a.i for a in concat.attribute if a.name == "axis"), 0)
