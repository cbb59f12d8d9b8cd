"""Finds the shapes and types of all values of a model."""

import math

import onnx
from onnx import ValueInfoProto, helper, shape_inference

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir.rules import MAX_ELEMENTS
from axforge.axcompiler.onnx_graph.net import Net, to_model

#: constants above this are weights: no shape depends on their values
LARGE = 1 << 14
#: operators of which ONNX's inference makes the elements themselves, as many as their operands ask for
_MAKES_ELEMENTS = frozenset({"ConstantOfShape", "Range"})


def infer(net: Net, where: str) -> None:
    """Fill net.shapes, net.types and net.value_info by ONNX's shape inference. Raises CompileError where shapes contradict."""
    net.value_info = []
    declared = [ValueInfoProto.FromString(o.SerializeToString()) for o in net.outputs]
    for output in net.outputs:
        if output.type.HasField("tensor_type"):
            _forget_symbols(output)
    try:
        plain = _without_weights(net)
        _refuse_large(plain, where)  # some rules of ONNX's inference count to the sizes that a file declares
        if any(n.op_type in _MAKES_ELEMENTS for n in net.nodes):
            _refuse_large(shape_inference.infer_shapes(plain, check_type=True, strict_mode=True), where)
        model = shape_inference.infer_shapes(plain, check_type=True, strict_mode=True, data_prop=True)
    except (shape_inference.InferenceError, ValueError, RuntimeError) as e:
        detail = " ".join(str(e).split())
        raise CompileError(f"the shapes or types in the model contradict each other: {detail}", where=where) from e
    _refuse_large(model, where)
    net.outputs = [_merge(before, after) for before, after in zip(declared, model.graph.output, strict=True)]
    net.shapes, net.types = {}, {}
    for name, constant in net.constants.items():
        net.shapes[name], net.types[name] = tuple(constant.dims), constant.data_type
    for value in (*net.inputs, *net.outputs, *model.graph.value_info):
        _record(net, value)
    net.value_info = sorted(
        (v for v in model.graph.value_info if v.name in net.shapes and v.name not in net.constants), key=lambda v: v.name
    )


def _refuse_large(model: onnx.ModelProto, where: str) -> None:
    """Raises CompileError for a value of `MAX_ELEMENTS` elements and more."""
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        sizes = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if math.prod(sizes) >= MAX_ELEMENTS or any(d >= MAX_ELEMENTS for d in sizes):
            shape = "x".join(map(str, sizes))
            raise CompileError(
                f"tensor '{value.name}' has shape {shape}; a tensor may have 2,147,483,647 elements",
                where=where,
                fix="Export the model for smaller inputs, or pin their shapes: compile.check.input_shapes in model.json.",
            )


def _without_weights(net: Net) -> onnx.ModelProto:
    """The model with large constants as inputs of known type, which is all that shape inference needs of them."""
    large = {n: t for n, t in net.constants.items() if t.ByteSize() > LARGE}
    inputs = [helper.make_tensor_value_info(n, t.data_type, t.dims) for n, t in large.items()]
    small = {n: t for n, t in net.constants.items() if n not in large}
    return to_model(Net(net.nodes, small, [*net.inputs, *inputs], net.outputs, net.opsets))


def _forget_symbols(value: ValueInfoProto) -> None:
    """A declared output size may have been true for other input sizes only; keep the rank, drop named and zero sizes."""
    for dim in value.type.tensor_type.shape.dim:
        if dim.dim_param or dim.dim_value <= 0:
            dim.Clear()


def _merge(declared: ValueInfoProto, inferred: ValueInfoProto) -> ValueInfoProto:
    """The inferred output, unless inference lost it."""
    return inferred if inferred.type.ByteSize() else declared


def _record(net: Net, value: ValueInfoProto) -> None:
    if not value.type.HasField("tensor_type"):
        return
    tensor = value.type.tensor_type
    net.types[value.name] = tensor.elem_type
    if tensor.HasField("shape") and all(d.HasField("dim_value") and d.dim_value >= 0 for d in tensor.shape.dim):
        net.shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
