"""Rewrites that keep the function: copies and dead nodes go, normalisation and bias move into the layer before."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from axforge.axcompiler.onnx_graph.net import Net, attribute, reads, set_attribute

F64 = NDArray[np.float64]
_LAYERS = ("Conv", "ConvTranspose", "Gemm")


def remove_copies(net: Net) -> bool:
    """x -> Identity | Dropout | Cast to its own type -> y  ==>  x. A copy between an input and an output stays."""
    dead = []
    made_outputs = {o for n in net.nodes for o in n.output} & net.output_names
    for node in net.nodes:
        if not _is_copy(net, node):
            continue
        x, y = node.input[0], node.output[0]
        if y in net.output_names:
            maker = net.makers().get(x)
            if maker is None or x in net.output_names or y not in made_outputs:
                continue
            for i, o in enumerate(maker.output):
                if o == x:
                    maker.output[i] = y
            net.replace_value(x, y)
        else:
            net.replace_value(y, x)
        dead.append(node)
    net.remove(dead, "it only copies its operand")
    return bool(dead)


def _is_copy(net: Net, node: NodeProto) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Identity":
        return net.types.get(node.input[0], 0) != 0
    if node.op_type == "Dropout":
        mask_unused = len(node.output) < 2 or not node.output[1] or not _is_read(net, node.output[1])
        training = len(node.input) > 2 and node.input[2] and net.constant(node.input[2])
        unknown = len(node.input) > 2 and node.input[2] and node.input[2] not in net.constants
        return mask_unused and not unknown and not bool(training)
    if node.op_type == "Cast":
        return net.types.get(node.input[0], 0) == attribute(node, "to")
    return False


def _is_read(net: Net, name: str) -> bool:
    return name in net.output_names or any(name in reads(node) for node in net.nodes)


def remove_dead(net: Net) -> bool:
    """Nodes nobody reads, and constants nobody reads."""
    needed = set(net.output_names)
    dead = []
    for node in reversed(net.nodes):
        if needed.isdisjoint(o for o in node.output if o):
            dead.append(node)
        else:
            needed.update(reads(node))
    net.remove(dead, "nothing uses its result")
    unused = [name for name in net.constants if name not in needed]
    for name in unused:
        del net.constants[name]
    return bool(dead)


def _float_constant(net: Net, name: str) -> F64 | None:
    value = net.constant(name)
    return value.astype(np.float64) if value is not None and value.dtype == np.float32 else None


def fold_affine(net: Net) -> bool:
    """layer -> BatchNormalization | Mul | Div | Add | Sub (by a constant per channel)  ==>  layer with other weight and bias.

    A layer is Conv, ConvTranspose or Gemm with constant float32 weight and bias whose result only this node reads.
    """
    makers, users = net.makers(), net.users()
    for node in net.nodes:
        pair = _affine(net, node, makers)
        if pair is None:
            continue
        x, scale, shift = pair
        layer = makers.get(x)
        if layer is None or layer.op_type not in _LAYERS or x in net.output_names or len(users[x]) != 1:
            continue
        if _scale_layer(net, layer, scale, shift):
            layer.output[0] = node.output[0]
            net.remove([node], f"merged into the weights of '{layer.name}'")
            return True
    return False


def _affine(net: Net, node: NodeProto, makers: dict[str, NodeProto]) -> tuple[str, F64, F64] | None:
    """(operand, scale, shift), each a scalar or one number a channel, if the node is an affine map of the layer before it."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "BatchNormalization":
        bn = batch_norm(net, node)
        return (node.input[0], *bn) if bn is not None else None
    if node.op_type not in ("Mul", "Div", "Add", "Sub") or node.output[0] not in net.shapes:
        return None
    for i in (0, 1):
        constant = _float_constant(net, node.input[i])
        x = node.input[1 - i]
        if constant is None or x not in makers or net.shapes.get(x) != net.shapes[node.output[0]]:
            continue
        per_channel = _per_channel(constant, net.shapes[x])
        if per_channel is None:
            continue
        return _arithmetic(node.op_type, x, i, per_channel)
    return None


def _arithmetic(op: str, x: str, constant_at: int, c: F64) -> tuple[str, F64, F64] | None:
    one, zero = np.ones(1), np.zeros(1)
    if op == "Mul":
        return x, c, zero
    if op == "Add":
        return x, one, c
    if op == "Sub":
        return (x, one, -c) if constant_at == 1 else (x, -one, c)
    if constant_at == 1 and bool((c != 0).all()):
        return x, 1 / c, zero
    return None


def _per_channel(c: F64, shape: tuple[int, ...]) -> F64 | None:
    """`c` as one number, or one a channel (axis 1) of a value of that shape; None if it varies along another axis."""
    if c.size == 1:
        return c.reshape(1)
    full = (1,) * (len(shape) - c.ndim) + c.shape
    return c.reshape(-1) if len(full) == len(shape) >= 2 and full[1] == shape[1] == c.size else None


def batch_norm(net: Net, node: NodeProto) -> tuple[F64, F64] | None:
    """(scale, shift) a channel of an inference BatchNormalization with constant parameters."""
    if attribute(node, "training_mode", 0) or len([o for o in node.output if o]) != 1:
        return None
    values = [_float_constant(net, name) for name in node.input[1:5]]
    if any(v is None for v in values):
        return None
    gamma, beta, mean, variance = (v for v in values if v is not None)
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return scale, beta - mean * scale


def _scale_layer(net: Net, layer: NodeProto, scale: F64, shift: F64) -> bool:
    weight = _float_constant(net, layer.input[1])
    has_bias = len(layer.input) > 2 and bool(layer.input[2])
    bias = _float_constant(net, layer.input[2]) if has_bias else np.zeros(1)
    if weight is None or bias is None:
        return False
    if layer.op_type == "Gemm":
        if attribute(layer, "alpha", 1.0) != 1.0 or attribute(layer, "beta", 1.0) != 1.0 or bias.size not in (1, bias.shape[-1]):
            return False
        axis = 0 if attribute(layer, "transB", 0) else 1
        m = weight.shape[axis]
        scaled = weight * np.broadcast_to(scale, (m,)).reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
    elif layer.op_type == "Conv":
        m = weight.shape[0]
        scaled = weight * np.broadcast_to(scale, (m,)).reshape(-1, *[1] * (weight.ndim - 1))
    else:
        groups = attribute(layer, "group", 1)
        m = weight.shape[1] * groups
        by_group = weight.reshape(groups, -1, *weight.shape[1:]) * np.broadcast_to(scale, (m,)).reshape(
            groups, 1, -1, *[1] * (weight.ndim - 2)
        )
        scaled = by_group.reshape(weight.shape)
    if scale.size not in (1, m) or shift.size not in (1, m):
        return False
    new_bias = np.broadcast_to(bias.reshape(-1) * scale + shift, (m,))
    _set_weights(net, layer, scaled, new_bias)
    return True


def _set_weights(net: Net, layer: NodeProto, weight: F64, bias: F64) -> None:
    inputs = [layer.input[0], net.add_constant(f"{layer.name}_weight", weight.astype(np.float32))]
    inputs.append(net.add_constant(f"{layer.name}_bias", bias.astype(np.float32)))
    del layer.input[:]
    layer.input.extend(inputs)


def batch_norm_to_conv(net: Net) -> bool:
    """A BatchNormalization of an image that no layer can absorb  ==>  depthwise 1x1 Conv (a scale a channel, exact to int8 weights)."""
    for node in net.nodes:
        if node.op_type != "BatchNormalization" or node.domain not in ("", "ai.onnx"):
            continue
        pair, shape = batch_norm(net, node), net.shapes.get(node.input[0], ())
        if pair is None or len(shape) != 4 or net.types.get(node.input[0]) != 1 or node.input[0] in {i.name for i in net.inputs}:
            continue  # (of an input it is pre-processing, and stays in float32)
        scale, shift = pair
        node.op_type = "Conv"
        del node.attribute[:], node.output[1:]
        node.attribute.extend([helper.make_attribute("group", shape[1]), helper.make_attribute("kernel_shape", [1, 1])])
        _set_weights(net, node, scale.reshape(-1, 1, 1, 1), shift)
        return True
    return False


def plain_gemm(net: Net) -> bool:
    """alpha and beta of a Gemm with constant weight and bias  ==>  other weight and bias."""
    changed = False
    for node in net.nodes:
        alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
        if node.op_type != "Gemm" or node.domain or (alpha == 1.0 and beta == 1.0):
            continue
        weight = _float_constant(net, node.input[1])
        has_bias = len(node.input) > 2 and bool(node.input[2])
        bias = _float_constant(net, node.input[2]) if has_bias else np.zeros(0)
        if weight is None or bias is None:
            continue
        node.input[1] = net.add_constant(f"{node.name}_weight", (weight * alpha).astype(np.float32))
        if has_bias:
            node.input[2] = net.add_constant(f"{node.name}_bias", (bias * beta).astype(np.float32))
        set_attribute(node, "alpha", 1.0)
        set_attribute(node, "beta", 1.0)
        changed = True
    return changed


def fold_pad(net: Net) -> bool:
    """Pad with zeros on the image axes -> Conv  ==>  Conv with larger pads."""
    makers, users = net.makers(), net.users()
    for node in net.nodes:
        pad = makers.get(node.input[0]) if node.op_type == "Conv" else None
        if pad is None or pad.op_type != "Pad" or pad.output[0] in net.output_names or len(users[pad.output[0]]) != 1:
            continue
        amounts = _zero_pad(net, pad)
        auto = attribute(node, "auto_pad", b"NOTSET")
        if amounts is None or auto not in (b"NOTSET", b"VALID"):
            continue
        half = len(amounts) // 2
        spatial = [*amounts[2:half], *amounts[half + 2 :]]
        old = list(attribute(node, "pads", [0] * len(spatial)))
        if any(amounts[:2]) or any(amounts[half : half + 2]) or min(spatial) < 0:
            continue
        set_attribute(node, "pads", [a + b for a, b in zip(old, spatial, strict=True)])
        set_attribute(node, "auto_pad", "NOTSET")
        node.input[0] = pad.input[0]
        net.remove([pad], f"merged into the padding of '{node.name}'")
        return True
    return False


def _zero_pad(net: Net, pad: NodeProto) -> list[int] | None:
    mode = attribute(pad, "mode", b"constant")
    amounts = net.constant(pad.input[1]) if len(pad.input) > 1 else None
    value = net.constant(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(1)
    axes_given = len(pad.input) > 3 and bool(pad.input[3])
    if mode != b"constant" or amounts is None or value is None or axes_given or bool(np.any(value != 0)):
        return None
    return [int(a) for a in amounts.reshape(-1)]


def explicit_pads(net: Net) -> bool:
    """auto_pad=SAME_UPPER | SAME_LOWER | VALID of convolutions and pools  ==>  pads."""
    changed = False
    for node in net.nodes:
        auto = attribute(node, "auto_pad", b"NOTSET")
        if node.op_type not in ("Conv", "MaxPool", "AveragePool") or auto == b"NOTSET" or attribute(node, "ceil_mode", 0):
            continue
        x, kernel = net.shapes.get(node.input[0]), _kernel(net, node)
        if x is None or kernel is None:
            continue
        before, after = [], []
        strides, dilations = attribute(node, "strides", [1] * len(kernel)), attribute(node, "dilations", [1] * len(kernel))
        for size, k, s, d in zip(x[2:], kernel, strides, dilations, strict=True):
            total = 0 if auto == b"VALID" else max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            small = total // 2
            before.append(small if auto != b"SAME_LOWER" else total - small)
            after.append(total - before[-1])
        set_attribute(node, "auto_pad", "NOTSET")
        set_attribute(node, "pads", [*before, *after])
        changed = True
    return changed


def _kernel(net: Net, node: NodeProto) -> tuple[int, ...] | None:
    given: Any = attribute(node, "kernel_shape")
    if given is not None:
        return tuple(given)
    weight = net.shapes.get(node.input[1]) if len(node.input) > 1 else None
    return weight[2:] if weight is not None else None


def matmul_to_gemm(net: Net) -> bool:
    """x -> MatMul(constant [K, N]) -> Add(constant [N])  ==>  Gemm; for more than two axes between two Reshapes."""
    makers, users = net.makers(), net.users()
    for add in net.nodes:
        if add.op_type != "Add" or add.domain:
            continue
        for i in (0, 1):
            matmul, bias = makers.get(add.input[i]), _float_constant(net, add.input[1 - i])
            if matmul is None or matmul.op_type != "MatMul" or bias is None or len(users[matmul.output[0]]) != 1:
                continue
            weight, shape = _float_constant(net, matmul.input[1]), net.shapes.get(matmul.input[0])
            if weight is None or weight.ndim != 2 or shape is None or len(shape) < 2 or matmul.output[0] in net.output_names:
                continue
            if bias.shape not in ((weight.shape[1],), (1, weight.shape[1])) or net.shapes.get(add.output[0]) != (
                *shape[:-1],
                weight.shape[1],
            ):
                continue
            _make_gemm(net, matmul, add, weight, bias, shape)
            return True
    return False


def _make_gemm(net: Net, matmul: NodeProto, add: NodeProto, weight: F64, bias: F64, shape: tuple[int, ...]) -> None:
    w = matmul.input[1]
    b = net.add_constant(f"{matmul.name}_bias", bias.reshape(-1).astype(np.float32))
    at = next(i for i, n in enumerate(net.nodes) if n is add)
    x, y = matmul.input[0], add.output[0]
    net.remove([add], f"merged into the bias of '{matmul.name}'")
    net.nodes = [n for n in net.nodes if n is not matmul]
    at -= 1
    if len(shape) == 2:
        net.nodes.insert(at, helper.make_node("Gemm", [x, w, b], [y], matmul.name))
        return
    flat = net.add_constant(f"{matmul.name}_rows", np.asarray([-1, shape[-1]], np.int64))
    full = net.add_constant(f"{matmul.name}_shape", np.asarray([*shape[:-1], weight.shape[1]], np.int64))
    net.nodes[at:at] = [
        helper.make_node("Reshape", [x, flat], [f"{y}_rows_in"], f"{matmul.name}_rows_in"),
        helper.make_node("Gemm", [f"{y}_rows_in", w, b], [f"{y}_rows"], matmul.name),
        helper.make_node("Reshape", [f"{y}_rows", full], [y], f"{matmul.name}_rows_out"),
    ]


#: each gives True if it changed the net; those that change one place at a time are run until they find none
PASSES: tuple[Callable[[Net], bool], ...] = (
    remove_copies, explicit_pads, fold_pad, plain_gemm, fold_affine, matmul_to_gemm, batch_norm_to_conv, remove_dead,
)  # fmt: skip


def tidy(net: Net) -> None:
    """Give initializers raw data and nothing else, so that equal values are equal bytes."""
    for name, tensor in net.constants.items():
        if tensor.data_type != 8 and not (tensor.HasField("raw_data") and not tensor.doc_string and not tensor.metadata_props):
            net.constants[name] = numpy_helper.from_array(numpy_helper.to_array(tensor), name)
