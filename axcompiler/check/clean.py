"""From any ONNX model to a plain one of the same function: `clean` is the whole of it, one step a line."""

from collections.abc import Mapping, Sequence

import onnx
from onnx import checker

from axforge.axcompiler.check import fold, normalize, simplify
from axforge.axcompiler.check.widen import widen
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.onnx_graph import shapes
from axforge.axcompiler.onnx_graph.net import Net, from_model


def clean(model: onnx.ModelProto, pinned: Mapping[str, Sequence[int]], where: str) -> Net:
    """The model with static shapes, folded and simplified. Raises CompileError on an invalid model or shapes it cannot fix."""
    validate(model, where)
    normalize.strip(model)
    model = normalize.inline_functions(model)
    widen(model)
    normalize.name_nodes(list(model.graph.node))
    original = {n.name: n.op_type for n in model.graph.node}
    net = from_model(normalize.convert_opset(model, where))
    normalize.name_nodes(net.nodes)
    normalize.sort_nodes(net)
    shapes.pin_inputs(net, pinned, where)
    simplify.tidy(net)
    _simplify(net, where)
    present = {n.name for n in net.nodes}
    for name, op_type in original.items():
        if name not in present:
            net.removed.setdefault(name, (op_type, "converting the opset replaced it"))
    net.removed = {name: why for name, why in sorted(net.removed.items()) if name in original and name not in present}
    return net


def validate(model: onnx.ModelProto, where: str) -> None:
    """Raises CompileError if ONNX's own checker refuses the model.

    Inputs and outputs without a shape, which the checker refuses, are common and harmless: they get one while it looks.
    """
    shapeless = [v for v in (*model.graph.input, *model.graph.output) if _lacks_shape(v)]
    for value in shapeless:
        value.type.tensor_type.shape.SetInParent()
    try:
        checker.check_model(model)
    except (checker.ValidationError, ValueError, RuntimeError) as e:
        raise CompileError(
            f"the model is no valid ONNX: {' '.join(str(e).split())}", where=where, fix="Export the model again, or ask who made it."
        ) from e
    finally:
        for value in shapeless:
            value.type.tensor_type.ClearField("shape")


def _lacks_shape(value: onnx.ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")


def is_quantized(net: Net) -> bool:
    """Whether the model has quantized activations already (QuantizeLinear in it)."""
    return any(n.op_type == "QuantizeLinear" for n in net.nodes)


def _simplify(net: Net, where: str) -> None:
    """Fold and rewrite until nothing changes. A quantized model is only folded: its graph is what its maker chose."""
    quantized = is_quantized(net)
    passes = (simplify.remove_copies, simplify.remove_dead) if quantized else simplify.PASSES
    fold.constants_to_initializers(net)
    shapes.infer(net, where)
    changed = True
    while changed:
        changed = fold.fold(net, keep_dequantize=quantized)
        for one in passes:
            while one(net):
                changed = True
                net.values.clear()
                if one in _RESHAPING:
                    shapes.infer(net, where)
        if changed:
            shapes.infer(net, where)
    simplify.remove_dead(net)


#: passes after which shapes of new values must be known before they run again
_RESHAPING = (simplify.matmul_to_gemm,)
