"""The rules a fused graph keeps, as code. `check` runs before and after every stage and on every file that is read,
so engines may rely on them: in particular no shape, index or constant in a checked graph leads outside a buffer.

The rules of each operator are with it, in `ir/ops`.
"""

import math

import numpy as np

from axforge.axcompiler.ir import Graph, Quant, Tensor
from axforge.axcompiler.ir.rules import MAX_ELEMENTS, SpecError, is_float32, require

__all__ = ["MAX_ELEMENTS", "MAX_RANK", "SpecError", "check"]

MAX_RANK = 8
#: what a tensor may hold: types that NumPy and onnxruntime both have
DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")


def check(graph: Graph) -> None:
    """Raises SpecError at the first rule that `graph` breaks."""
    for name, tensor in graph.tensors.items():
        _check_tensor(name, tensor)
    _check_operators(graph, _given(graph))


def _given(graph: Graph) -> set[str]:
    """Names of the tensors that no operator makes: inputs and constant operands."""
    given = set(graph.inputs)
    require(len(given) == len(graph.inputs), "an input is listed twice")
    for name in (*graph.inputs, *graph.outputs):
        require(name in graph.tensors, f"input or output '{name}' is not a tensor")
    for name in graph.tensors:
        if name in graph.constants:
            require(name not in given, f"'{name}' is an input and a constant")
            _check_constant_operand(graph, name)
            given.add(name)
    return given


def _check_operators(graph: Graph, made: set[str]) -> None:
    seen: set[str] = set()
    for op in graph.ops:
        require(op.name not in seen, f"two operators are called '{op.name}'")
        seen.add(op.name)
        for name in op.inputs:
            require(name in graph.tensors and name in made, f"{op.name}: operand '{name}' is not made before it is used")
        for name in op.outputs:
            require(name in graph.tensors, f"{op.name}: result '{name}' is not a tensor")
            require(name not in made, f"{op.name}: '{name}' is made twice")
            made.add(name)
        try:
            op.check(graph)
        except SpecError as e:
            raise SpecError(f"{op.name} ({type(op).__name__}): {e}") from None
    for name in graph.outputs:
        require(name in made, f"output '{name}' is never made")


def _check_tensor(name: str, tensor: Tensor) -> None:
    plain = tensor.quant is None and tensor.dtype != "int8"
    require(tensor.dtype in DTYPES, f"tensor '{name}' has type '{tensor.dtype}'")
    least = -1 if plain else 0
    possible = len(tensor.shape) <= MAX_RANK and all(least <= d < MAX_ELEMENTS for d in tensor.shape)
    require(possible, f"tensor '{name}' has shape {tensor.shape}")
    require(abs(math.prod(tensor.shape)) < MAX_ELEMENTS, f"tensor '{name}' of shape {tensor.shape} has more elements than 32 bits count")
    if tensor.quant:
        _check_quant(name, tensor, tensor.quant)


def _check_quant(name: str, tensor: Tensor, quant: Quant) -> None:
    require(tensor.dtype == "int8", f"tensor '{name}' has a scale but is {tensor.dtype}")
    require(math.isfinite(quant.scale) and quant.scale > 0 and is_float32(quant.scale), f"tensor '{name}' has scale {quant.scale}")
    require(-128 <= quant.zero_point <= 127, f"tensor '{name}' has zero point {quant.zero_point}")


def _check_constant_operand(graph: Graph, name: str) -> None:
    tensor, value = graph.tensors[name], graph.constants[name]
    require(
        tensor.quant is not None and value.dtype == np.int8 and value.shape == tensor.shape,
        f"constant operand '{name}' is {value.dtype}{list(value.shape)}, its tensor says {tensor.dtype}{list(tensor.shape)}",
    )
