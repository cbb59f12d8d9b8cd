"""Input shapes made static, and the shapes of everything else found from them."""

import difflib
from collections.abc import Mapping, Sequence

import onnx
from onnx import ValueInfoProto, helper, shape_inference

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.onnx_graph.net import Net, to_model

#: constants above this are weights: no shape depends on their values
LARGE = 1 << 14


def pin_inputs(net: Net, pinned: Mapping[str, Sequence[int]], where: str) -> None:
    """Give every input a static shape: what the file says, what `pinned` says, and 1 for an unknown first axis (the batch).

    A named dimension that is pinned in one input is pinned wherever it occurs. Raises CompileError, naming input and axis.
    """
    names = [i.name for i in net.inputs]
    for name in pinned:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1) or names[:1]
            raise CompileError(
                f"compile.check.input_shapes names an input '{name}', which the model does not have",
                where=where,
                fix=f"Its inputs are: {', '.join(names)}." + (f" Did you mean '{near[0]}'?" if near else ""),
            )
    symbols = _symbols(net, pinned)
    for value in net.inputs:
        if value.type.HasField("tensor_type"):
            _pin(value, pinned.get(value.name), symbols, where)


def _symbols(net: Net, pinned: Mapping[str, Sequence[int]]) -> dict[str, int]:
    return {
        dim.dim_param: int(size)
        for value in net.inputs
        if value.name in pinned
        for dim, size in zip(value.type.tensor_type.shape.dim, pinned[value.name], strict=False)
        if dim.dim_param
    }


def _pin(value: ValueInfoProto, wanted: Sequence[int] | None, symbols: Mapping[str, int], where: str) -> None:
    tensor = value.type.tensor_type
    place = f"{where}: input '{value.name}'"
    if not tensor.HasField("shape"):
        if wanted is None:
            raise CompileError("the model gives this input no shape", where=place, fix=_how(value.name, ["N", "C", "H", "W"]))
        tensor.shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=int(d)) for d in wanted)
    dims = tensor.shape.dim
    shown = [d.dim_param or (d.dim_value if d.HasField("dim_value") else "?") for d in dims]
    if wanted is not None and len(wanted) != len(dims):
        raise CompileError(f"the model gives it {len(dims)} dimensions, compile.check.input_shapes gives {len(wanted)}", where=place)
    for axis, dim in enumerate(dims):
        known = dim.HasField("dim_value") and dim.dim_value >= 0 and not (axis == 0 and dim.dim_value == 0 and wanted)
        if known:
            if wanted is not None and wanted[axis] != dim.dim_value:
                raise CompileError(
                    f"dimension {axis} is fixed to {dim.dim_value} in the model, compile.check.input_shapes gives {wanted[axis]}",
                    where=place,
                    fix="Give the shape of the model, or export the model with dynamic dimensions.",
                )
        elif wanted is not None and wanted[axis] > 0:
            dim.dim_value = int(wanted[axis])
        elif dim.dim_param in symbols:
            dim.dim_value = symbols[dim.dim_param]
        elif axis == 0:
            dim.dim_value = 1
        else:
            name = f" ('{dim.dim_param}')" if dim.dim_param else ""
            raise CompileError(f"dimension {axis}{name} of its shape {_text(shown)} is dynamic", where=place, fix=_how(value.name, shown))


def _text(shape: Sequence[object]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _how(name: str, shape: Sequence[object]) -> str:
    example = ", ".join(str(d) if isinstance(d, int) else ("1" if i == 0 else f"<{d}>") for i, d in enumerate(shape))
    shown = f'"compile": {{"check": {{"input_shapes": {{"{name}": [{example}]}}}}}}'
    option = f"--input-shape {name}={example.replace(', ', ',')}"
    return f"Pin it in model.json: {shown}, or with python -m axforge.axcompiler: {option}; a number for each <...>."


def infer(net: Net, where: str) -> None:
    """Fill net.shapes, net.types and net.value_info by ONNX's shape inference. Raises CompileError where shapes contradict."""
    net.value_info = []
    declared = [ValueInfoProto.FromString(o.SerializeToString()) for o in net.outputs]
    for output in net.outputs:
        if output.type.HasField("tensor_type"):
            _forget_symbols(output)
    try:
        model = shape_inference.infer_shapes(_without_weights(net), check_type=True, strict_mode=True, data_prop=True)
    except (shape_inference.InferenceError, ValueError, RuntimeError) as e:
        detail = " ".join(str(e).split())
        raise CompileError(f"the shapes or types in the model contradict each other: {detail}", where=where) from e
    net.outputs = [_merge(before, after) for before, after in zip(declared, model.graph.output, strict=True)]
    net.shapes, net.types = {}, {}
    for name, constant in net.constants.items():
        net.shapes[name], net.types[name] = tuple(constant.dims), constant.data_type
    for value in (*net.inputs, *net.outputs, *model.graph.value_info):
        _record(net, value)
    net.value_info = sorted(
        (v for v in model.graph.value_info if v.name in net.shapes and v.name not in net.constants), key=lambda v: v.name
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
