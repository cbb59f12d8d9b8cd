"""Reads the QDQ form: which tensors are quantized, and how; which constants are quantized weights.

    T ── QuantizeLinear ── q ── DequantizeLinear ── D ── users       code: T, and every D, with one scale and zero point
    w ── DequantizeLinear ── W                                       weight: a constant, with its codes

uint8 activations become int8 by subtracting 128 from code and zero point. What is not 8 bits per tensor (int4, int16,
float8, blocks) is not read: those nodes stay what they are, floating-point nodes of an island.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from axforge.axcompiler.ir import Quant
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.onnx_graph.views import ModelView, constants_of, view

_DOMAINS = ("", "ai.onnx", "com.microsoft")


@dataclass(frozen=True)
class Code:
    """A quantized activation. real: the float tensor it is made of. q: the ONNX tensor of codes. quant: as int8."""

    real: str
    q: str
    quant: Quant


@dataclass(frozen=True)
class ConstantCodes:
    """A quantized constant. codes: minus their zero point, int32 (int8 values where they fit). scales: float32 [1] or [channels]."""

    codes: Array
    scales: NDArray[np.float32]
    axis: int
    bits: int


@dataclass(frozen=True)
class Qdq:
    """A QDQ model understood.

    view: the model, with dequantized constants among its constants. codes: by real tensor, every code made of it.
    dequantized: DequantizeLinear output -> its code. constants: DequantizeLinear output -> its codes.
    read: indices of nodes that are wholly understood here and need not be run.
    """

    view: ModelView
    codes: Mapping[str, tuple[Code, ...]]
    dequantized: Mapping[str, Code]
    constants: Mapping[str, ConstantCodes]
    read: frozenset[int]


def is_quantized(nodes: Iterable[onnx.NodeProto]) -> bool:
    """Whether activations are quantized: whether there is a QuantizeLinear."""
    return any(node.op_type == "QuantizeLinear" for node in nodes)


def read(model: onnx.ModelProto) -> Qdq:
    """The QDQ structure of a model."""
    constants, values = _constants(model.graph)
    seen = view(model, constants=values)
    candidates: dict[int, Code] = {}
    for i, proto in enumerate(seen.protos):
        code = _code(seen, proto)
        if code:
            candidates[i] = code
    nodes, dequantized = _pairs(seen, candidates)
    codes: dict[str, list[Code]] = {}
    for i in sorted(nodes):
        if i in candidates:
            known = codes.setdefault(candidates[i].real, [])
            same = next((c for c in known if c.quant == candidates[i].quant), None)
            if same is None:
                known.append(candidates[i])
    first = {(c.real, c.quant): c for group in codes.values() for c in group}
    folded = {i for i, p in enumerate(seen.protos) if p.output and all(o in seen.constants for o in p.output)}
    return Qdq(
        view=seen,
        codes={real: tuple(group) for real, group in codes.items()},
        dequantized={name: first[code.real, code.quant] for name, code in dequantized.items()},
        constants=constants,
        read=frozenset(nodes | folded),
    )


def _pairs(seen: ModelView, candidates: Mapping[int, Code]) -> tuple[set[int], dict[str, Code]]:
    """Nodes of complete Q-DQ pairs: a Q all of whose users are DQs with its own scale and zero point."""
    nodes: set[int] = set()
    dequantized: dict[str, Code] = {}
    for i, code in candidates.items():
        users = seen.users.get(code.q, ())
        if code.q in seen.outputs or not users:
            continue
        if all(_matches(seen, seen.protos[i], seen.protos[u]) for u in users):
            nodes |= {i, *users}
            dequantized |= {seen.protos[u].output[0]: code for u in users}
    return nodes, dequantized


def _matches(seen: ModelView, q: onnx.NodeProto, dq: onnx.NodeProto) -> bool:
    if dq.op_type != "DequantizeLinear" or dq.domain not in _DOMAINS or dq.input[0] != q.output[0]:
        return False
    if seen.dtypes.get(dq.output[0], "float32") != "float32":
        return False
    mine, theirs = _parameters(q, seen.constants), _parameters(dq, seen.constants)
    return mine is not None and theirs is not None and _same(mine[0], theirs[0]) and int(mine[1].item()) == int(theirs[1].item())


def _same(a: Array, b: Array) -> bool:
    return a.size == b.size == 1 and bool(a.reshape(()) == b.reshape(()))


def _parameters(proto: onnx.NodeProto, constants: Mapping[str, Array]) -> tuple[Array, Array] | None:
    """(scale, zero point) of a Q or DQ, constants; a zero point left out is 0 of the type of the codes."""
    scale = constants.get(proto.input[1])
    if scale is None:
        return None
    if len(proto.input) > 2 and proto.input[2]:
        zero = constants.get(proto.input[2])
        return None if zero is None else (scale, zero)
    return scale, np.zeros(scale.shape, np.uint8 if _output_type(proto) in (0, onnx.TensorProto.UINT8) else np.int32)


def _output_type(proto: onnx.NodeProto) -> int:
    return next((a.i for a in proto.attribute if a.name == "output_dtype"), 0)


def _block(proto: onnx.NodeProto) -> int:
    return next((a.i for a in proto.attribute if a.name == "block_size"), 0)


def _code(seen: ModelView, proto: onnx.NodeProto) -> Code | None:
    """The code a QuantizeLinear makes, if it is 8 bits per tensor of a float32 activation."""
    if proto.op_type != "QuantizeLinear" or proto.domain not in _DOMAINS or proto.input[0] in seen.constants or _block(proto):
        return None
    parameters = _parameters(proto, seen.constants)
    if parameters is None or parameters[0].size != 1 or parameters[1].size != 1 or seen.dtypes.get(proto.input[0]) != "float32":
        return None
    scale, zero = parameters
    kind = zero.dtype.name
    if len(proto.input) < 3 or not proto.input[2]:
        kind = {0: "uint8", onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.INT8: "int8"}.get(_output_type(proto), "other")
    if kind not in ("int8", "uint8") or scale.dtype != np.float32 or not np.isfinite(scale).all() or scale.item() <= 0:
        return None
    shift = 128 if kind == "uint8" else 0
    return Code(proto.input[0], proto.output[0], Quant(float(scale.item()), int(zero.item()) - shift))


def _constants(graph: onnx.GraphProto) -> tuple[dict[str, ConstantCodes], dict[str, Array]]:
    """Quantized constants by the name of their DequantizeLinear's output, and all values that so become known."""
    known = constants_of(graph)
    codes: dict[str, ConstantCodes] = {}
    values: dict[str, Array] = {}
    for proto in graph.node:
        if proto.domain not in _DOMAINS or not proto.input or proto.input[0] not in known or _block(proto):
            continue
        parameters = _parameters(proto, known) if proto.op_type in ("QuantizeLinear", "DequantizeLinear") else None
        if parameters is None:
            continue
        if proto.op_type == "QuantizeLinear":
            made = _quantized(known[proto.input[0]], *parameters, _axis(proto))
            if made is not None:
                known[proto.output[0]] = values[proto.output[0]] = made
        else:
            result = _dequantized(known[proto.input[0]], *parameters, _axis(proto))
            if result is not None:
                codes[proto.output[0]] = result
                values[proto.output[0]] = real_of(result)
    return codes, values


def _axis(proto: onnx.NodeProto) -> int:
    return next((a.i for a in proto.attribute if a.name == "axis"), 1)


def along(values: Array, ndim: int, axis: int) -> Array:
    """One number, or one for each element of an axis, in a shape that broadcasts to `ndim` axes."""
    return values.reshape([-1 if i == axis else 1 for i in range(ndim)]) if values.size > 1 else values.reshape(())


def _quantized(x: Array, scale: Array, zero: Array, axis: int) -> Array | None:
    if zero.dtype not in (np.int8, np.uint8) or x.dtype != np.float32 or scale.dtype != np.float32:
        return None
    axis %= max(x.ndim, 1)
    info = np.iinfo(zero.dtype)
    codes = np.rint(x / along(scale, x.ndim, axis)) + along(zero, x.ndim, axis)
    return np.clip(codes, info.min, info.max).astype(zero.dtype)


def _dequantized(codes: Array, scale: Array, zero: Array, axis: int) -> ConstantCodes | None:
    if codes.dtype not in (np.int8, np.uint8, np.int32) or scale.dtype != np.float32 or zero.size not in (1, scale.size):
        return None
    axis %= max(codes.ndim, 1)
    if scale.size > 1 and (codes.ndim == 0 or scale.size != codes.shape[axis]):
        return None
    centred = codes.astype(np.int64) - along(zero.astype(np.int64), codes.ndim, axis)
    return ConstantCodes(np.clip(centred, -(2**31), 2**31 - 1).astype(np.int32), scale.reshape(-1), axis, codes.dtype.itemsize * 8)


def real_of(constant: ConstantCodes) -> NDArray[np.float32]:
    """The dequantized constant."""
    return constant.codes.astype(np.float32) * along(constant.scales, constant.codes.ndim, constant.axis).astype(np.float32)
