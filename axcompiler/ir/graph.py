"""The graph and what every operator has. `ir/ops` has the operators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import numerics
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir.fields import Constant, constants
from axforge.axcompiler.ir.rules import Constants, Shape, int8, require, require_constant, require_shape
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.registry import Registry


class Quant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Per-tensor affine quantization: real = (code - zero_point) * scale. `scale` is a float32 value, > 0."""

    scale: float
    zero_point: int


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value that flows between operators.

    shape: every dimension > 0 (or 0 for an empty tensor); -1 only where an island makes a size that depends on data.
    dtype: NumPy name. "int8" with a `quant` is a quantized activation; every other dtype has no quant and may only
    be made or used by islands, or be an input or output of the graph. (An int8 tensor without quant is plain data.)
    """

    shape: tuple[int, ...]
    dtype: str = "int8"
    quant: Quant | None = None


class Epilogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What follows an accumulator: code = clamp(round_half_even(t) + zero_point, lo, hi), then `table` if there is one.

    zero_point: of the code before the table; the output tensor's own zero point when there is no table.
    lo, hi: ReLU and Clip are only other bounds. table: name of a constant int8[256], indexed by code + 128.
    """

    zero_point: int
    lo: int = -128
    hi: int = 127
    table: Annotated[str | None, Constant("int8", 1)] = None

    def check(self, graph: "Graph", out: Quant) -> None:
        """Raise SpecError unless this can make codes of the quantization `out`."""
        good = -128 <= self.lo <= self.hi <= 127 and -128 <= self.zero_point <= 127
        require(good, f"bounds {self.lo}..{self.hi}, zero point {self.zero_point}")
        if self.table is None:
            require(self.zero_point == out.zero_point, "the zero point differs from the result's")
        else:
            require_shape(graph.constants, self.table, (256,))

    def apply(self, graph: "Graph", t: NDArray[np.float32]) -> Array:
        """The codes of `t`, real values in units of the scale before the table."""
        table = int8(graph.constants, self.table) if self.table is not None else None
        return numerics.requantize(t, self.zero_point, self.lo, self.hi, table)


class Op(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", kw_only=True):
    """What all operators have. `origin` names the ONNX nodes an operator was made from.

    A subclass has its fields, of which those that name constants are marked by `Constant`, and its facts and rules:

    arity: how many inputs it takes; None: any number. keeps_quant: scale and zero point must be the same in and out.
    moves_codes: each code of the result is one of the operand's (what it computes does not depend on what the codes are).
    takes_empty: an operand may be empty although the result is not.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    origin: tuple[str, ...] = ()

    arity: ClassVar[int | None] = 1
    keeps_quant: ClassVar[bool] = False
    moves_codes: ClassVar[bool] = False
    takes_empty: ClassVar[bool] = False

    @classmethod
    def tag(cls) -> str:
        """The operator's name in files."""
        return str(cls.__struct_config__.tag)

    def result_shape(self, graph: "Graph", operands: Sequence[Tensor]) -> Shape:
        """The shape of the result. Raises SpecError at the first rule that the operator's own fields or operands break."""
        raise NotImplementedError(type(self).__name__)

    def evaluate(self, graph: "Graph", operands: Sequence[Array]) -> Array:
        """The codes of the result, by `numerics.py`: what every engine must equal bit for bit."""
        raise NotImplementedError(type(self).__name__)

    def multiply_adds(self, graph: "Graph") -> int:
        """Products that the operator sums, padding included."""
        return 0

    def is_identity(self, graph: "Graph") -> bool:
        """Whether the result is the operand, given that both have the same shape and quantization."""
        return False

    def check(self, graph: "Graph") -> None:
        """Raise SpecError at the first rule that the operator breaks in `graph`, whose tensors exist and are sound."""
        require(self.arity is None or len(self.inputs) == self.arity, f"has {len(self.inputs)} inputs")
        require(len(self.outputs) == 1, f"has {len(self.outputs)} outputs")
        for name in (*self.inputs, *self.outputs):
            require(graph.tensors[name].quant is not None, f"tensor '{name}' carries no scale and zero point")
        for name, kind in constants(self):
            require_constant(graph.constants, name, kind.dtype, kind.rank)
        operands, out = [graph.tensors[n] for n in self.inputs], graph.tensors[self.outputs[0]]
        expected = self.result_shape(graph, operands)
        require(out.shape == expected, f"the result has shape {out.shape} and should have {expected}")
        same = not self.keeps_quant or all(t.quant == out.quant for t in operands)
        require(same, "copies codes, so scale and zero point must be the same in and out")
        epilogue = epilogue_of(self)
        if epilogue is not None and out.quant is not None:
            epilogue.check(graph, out.quant)

    def zero_point(self, graph: "Graph", i: int = 0) -> int:
        """Zero point of operand `i`."""
        return quant_of(graph, self.inputs[i]).zero_point

    def operand_shape(self, graph: "Graph", i: int = 0) -> Shape:
        """Shape of operand `i`."""
        return graph.tensors[self.inputs[i]].shape

    def output_shape(self, graph: "Graph") -> Shape:
        """Shape of the result."""
        return graph.tensors[self.outputs[0]].shape


def epilogue_of(op: Op) -> Epilogue | None:
    """The epilogue of an operator that has one."""
    epilogue = getattr(op, "epilogue", None)
    return epilogue if isinstance(epilogue, Epilogue) else None


#: every operator by its tag, the name in files
OPERATORS: Registry[str, type[Op]] = Registry("an operator of the fused graph")
AnOp = TypeVar("AnOp", bound=Op)


def operator(cls: type[AnOp]) -> type[AnOp]:
    """Class decorator: makes an operator part of the graph's file format."""
    OPERATORS(cls.tag())(cls)
    return cls


@dataclass(frozen=True)
class Graph:
    """A fused int8 graph. `ops` are in an order in which every operand is made before it is used.

    inputs, outputs: names of tensors, in the order and under the names of the ONNX model. A tensor whose name is also a
    key of `constants` is a constant operand (int8 with quant, of `add`, `mul`, `matmul`, `concat`).
    """

    name: str
    tensors: Mapping[str, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Constants = field(default_factory=dict)
    islands: Mapping[str, bytes] = field(default_factory=dict)


def quant_of(graph: Graph, name: str) -> Quant:
    """The quantization of tensor `name`; a CompileError if it has none (a broken graph, see `Op.check`)."""
    quant = graph.tensors[name].quant
    if quant is None:
        raise CompileError(f"tensor '{name}' carries no scale and zero point", where=graph.name)
    return quant
