"""Whether the data of a tensor are as long as its shape says, and numbers: ONNX's own checker does not look at it in every case."""

import math

import numpy as np
import onnx
from onnx import TensorProto

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.onnx_graph.net import Net
from axforge.axcompiler.onnx_graph.tensors import tensors
from axforge.axcompiler.operators import find

#: bits of an element that is not whole bytes of its NumPy type
_BITS = {
    name: bits for name, bits in (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2)) if hasattr(TensorProto, name)
}
_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def check_tensor_data(model: onnx.ModelProto, where: str) -> None:
    """Raises CompileError for a tensor whose data do not have the length that its shape and type need."""
    for tensor in tensors(model):
        if tensor.data_type and not _fits(tensor):
            raise CompileError(
                f"tensor '{tensor.name}' of shape {list(tensor.dims)} does not hold as many elements as that",
                where=where,
                fix="The file is damaged, or whoever wrote it made a mistake: export the model again.",
            )


def _fits(tensor: TensorProto) -> bool:
    if any(d < 0 for d in tensor.dims) or tensor.data_type not in TensorProto.DataType.values():
        return False
    count = math.prod(tensor.dims)
    bits = next((bits for name, bits in _BITS.items() if getattr(TensorProto, name) == tensor.data_type), 0)
    if tensor.data_type == TensorProto.STRING:
        return len(tensor.string_data) == count
    if tensor.HasField("raw_data"):
        wanted = -(-count * bits // 8) if bits else count * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        return len(tensor.raw_data) == wanted
    if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        count *= 2
    stored = max(len(getattr(tensor, field)) for field in _FIELDS)
    return stored in (count, -(-count * bits // 8)) if bits else stored == count


def refuse_infinite_weights(net: Net, where: str) -> None:
    """Raises CompileError for weights that are NaN or infinite. (Other constants may be: a mask is minus infinity.)"""
    for node in net.nodes:
        operator = find(node.op_type, node.domain)
        for name in node.input if operator and operator.multiplies else ():
            value = net.constant(name)
            if value is not None and value.dtype.kind == "f" and not (finite := np.isfinite(value)).all():
                count = np.count_nonzero(~finite)
                raise CompileError(
                    f"tensor '{name}', weights of {node.op_type} '{node.name}', has {count:,} values that are NaN or infinite",
                    where=where,
                    fix="The training has diverged, or a number is too large for float32: export a model whose weights are numbers.",
                )
