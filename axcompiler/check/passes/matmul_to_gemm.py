"""A matrix product and the sum after it become one Gemm."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from onnx import NodeProto, TensorProto, helper

from axforge.axcompiler.check.passes.base import F64, RepeatedPass, float_constant
from axforge.axcompiler.onnx_graph.net import Net


@dataclass(frozen=True)
class MatMulToGemm(RepeatedPass):
    """Join a product with a constant matrix and the sum with a constant after it.

    x ── MatMul (constant [K, N]) ── Add (constant [N]) ── y      becomes      x ── Gemm ── y

    For more than two axes the Gemm is between two Reshapes.
    """

    at: ClassVar[tuple[int, ...]] = (420,)
    keeps_shapes: ClassVar[bool] = False
    on_quantized: ClassVar[bool] = True

    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""
        makers, users = net.makers(), net.users()
        for add in net.nodes:
            if add.op_type != "Add" or add.domain:
                continue
            for i in (0, 1):
                matmul, bias = makers.get(add.input[i]), float_constant(net, add.input[1 - i])
                if matmul is None or matmul.op_type != "MatMul" or bias is None or len(users[matmul.output[0]]) != 1:
                    continue
                columns, shape = _columns(net, matmul, makers), net.shapes.get(matmul.input[0])
                if columns is None or shape is None or len(shape) < 2 or matmul.output[0] in net.output_names:
                    continue
                if bias.shape not in ((columns,), (1, columns)) or net.shapes.get(add.output[0]) != (*shape[:-1], columns):
                    continue
                _make_gemm(net, matmul, add, columns, bias, shape)
                return [f"made a Gemm of '{matmul.name}' and '{add.name}'"]
        return []


def _columns(net: Net, matmul: NodeProto, makers: dict[str, NodeProto]) -> int | None:
    """How many columns the constant matrix has, float32 or quantized; None if the product has none."""
    name = matmul.input[1]
    maker, shape = makers.get(name), net.shapes.get(name, ())
    constant = net.constant(name) is not None and net.types.get(name) == TensorProto.FLOAT
    quantized = maker is not None and maker.op_type == "DequantizeLinear" and maker.input[0] in net.constants
    return shape[1] if len(shape) == 2 and (constant or quantized) else None


def _make_gemm(net: Net, matmul: NodeProto, add: NodeProto, columns: int, bias: F64, shape: tuple[int, ...]) -> None:
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
    full = net.add_constant(f"{matmul.name}_shape", np.asarray([*shape[:-1], columns], np.int64))
    net.nodes[at:at] = [
        helper.make_node("Reshape", [x, flat], [f"{y}_rows_in"], f"{matmul.name}_rows_in"),
        helper.make_node("Gemm", [f"{y}_rows_in", w, b], [f"{y}_rows"], matmul.name),
        helper.make_node("Reshape", [f"{y}_rows", full], [y], f"{matmul.name}_rows_out"),
    ]
