"""The JSON half of a serialised graph."""

import functools
import operator
from typing import TYPE_CHECKING

import msgspec

import axforge.axcompiler.ir.ops  # noqa: F401  registers the operators
from axforge.axcompiler.ir.graph import OPERATORS, Op, Tensor

IR_VERSION = 1

if TYPE_CHECKING:  # any operator is an `Op` to a type checker; to read one, msgspec needs all classes there are
    _AnyOp = Op
else:
    _AnyOp = functools.reduce(operator.or_, OPERATORS.values())


class GraphHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON half of a serialised graph; `constants` gives name -> (dtype, shape) in the order of the data."""

    ir_version: int
    name: str
    tensors: dict[str, Tensor]
    ops: tuple[_AnyOp, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, tuple[str, tuple[int, ...]]]
    islands: dict[str, int]
