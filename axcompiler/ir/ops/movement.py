"""Operators that copy codes to other places and compute nothing (a concatenation may bring its operands to one scale)."""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from axforge.axcompiler import numerics
from axforge.axcompiler.ir.fields import Constant
from axforge.axcompiler.ir.graph import Graph, Op, Tensor, operator
from axforge.axcompiler.ir.rules import Shape, broadcast_shape, int8, int32, only, require, require_indices, require_shape
from axforge.axcompiler.numerics import Array


@operator
class Concat(Op, frozen=True, kw_only=True, tag="concat"):
    """Operands joined along `axis`. tables[i]: constant int8[256] that brings operand i to the common scale, or None."""

    axis: int
    tables: tuple[Annotated[str, Constant("int8", 1)] | None, ...]

    arity = None
    takes_empty = True

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """The operands' shape with their sizes along `axis` added up."""
        require(len(operands) >= 1 and len(self.tables) == len(operands), "needs one table entry for each operand")
        first, out = operands[0].shape, graph.tensors[self.outputs[0]]
        require(0 <= self.axis < len(first), f"has no axis {self.axis}")
        for x, table in zip(operands, self.tables, strict=True):
            off_axis = (x.shape[: self.axis], x.shape[self.axis + 1 :]) == (first[: self.axis], first[self.axis + 1 :])
            require(len(x.shape) == len(first) and off_axis, f"operand shapes {x.shape} and {first} differ off the axis")
            if table is None:
                require(x.quant == out.quant, "an operand of another scale needs a table")
            else:
                require_shape(graph.constants, table, (256,))
        return (*first[: self.axis], sum(x.shape[self.axis] for x in operands), *first[self.axis + 1 :])

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Look up where there is a table, and join."""
        c = graph.constants
        parts = [x if t is None else numerics.lookup(x, int8(c, t)) for x, t in zip(operands, self.tables, strict=True)]
        return np.concatenate(parts, axis=self.axis)


@operator
class Reshape(Op, frozen=True, kw_only=True, tag="reshape"):
    """The same codes in row-major order with the output's shape."""

    keeps_quant = True
    moves_codes = True

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """Any shape with as many elements."""
        x, shape = only(operands).shape, self.output_shape(graph)
        require(math.prod(shape) == math.prod(x), f"{x} and {shape} differ in size")
        return shape

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Another shape."""
        return only(operands).reshape(self.output_shape(graph))

    def is_identity(self, graph: Graph) -> bool:
        """Always, given the same shape."""
        return True


@operator
class Transpose(Op, frozen=True, kw_only=True, tag="transpose"):
    """Output axis i is input axis perm[i]."""

    perm: tuple[int, ...]

    keeps_quant = True
    moves_codes = True

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """The operand's axes in their new order."""
        x = only(operands).shape
        require(sorted(self.perm) == list(range(len(x))), f"perm {self.perm} does not fit shape {x}")
        return tuple(x[p] for p in self.perm)

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """Axes in another order."""
        return only(operands).transpose(self.perm)

    def is_identity(self, graph: Graph) -> bool:
        """The order is kept."""
        return self.perm == tuple(range(len(self.perm)))


@operator
class Slice(Op, frozen=True, kw_only=True, tag="slice"):
    """Every axis has a start (>= 0), a step (!= 0); the size is the output's."""

    starts: tuple[int, ...]
    steps: tuple[int, ...]

    keeps_quant = True
    moves_codes = True

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """Any shape whose elements are all inside the operand."""
        x, shape = only(operands).shape, self.output_shape(graph)
        require(len(self.starts) == len(self.steps) == len(shape) == len(x), "needs a start and a step for each axis")
        for size, n, start, step in zip(x, shape, self.starts, self.steps, strict=True):
            require(n > 1 or step == 1, "an axis of at most one element must have step 1")  # the step becomes a stride of the view
            last = start + step * (n - 1)
            inside = 0 <= start < size and 0 <= last < size
            require(step != 0 and (inside if n else 0 <= start <= size), "reads outside the operand")
        return shape

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """The chosen elements of each axis."""
        x = only(operands)
        for axis, (start, step, size) in enumerate(zip(self.starts, self.steps, self.output_shape(graph), strict=True)):
            x = np.take(x, start + step * np.arange(size), axis=axis)
        return x

    def is_identity(self, graph: Graph) -> bool:
        """No axis is read backwards."""
        return set(self.steps) <= {1}


@operator
class Take(Op, frozen=True, kw_only=True, tag="take"):
    """Elements `index` (constant int32 [O], each in range) along `axis`: nearest resize, constant gather, edge padding."""

    axis: int
    index: Annotated[str, Constant("int32", 1)]

    keeps_quant = True
    moves_codes = True

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """The operand's shape with O along `axis`."""
        x = only(operands).shape
        require(0 <= self.axis < len(x), f"has no axis {self.axis}")
        require_indices(graph.constants, self.index, x[self.axis])
        return (*x[: self.axis], len(graph.constants[self.index]), *x[self.axis + 1 :])

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """The chosen elements."""
        return np.take(only(operands), int32(graph.constants, self.index).astype(np.int64), axis=self.axis)

    def is_identity(self, graph: Graph) -> bool:
        """Every element, in order."""
        return np.array_equal(graph.constants[self.index], np.arange(self.operand_shape(graph)[self.axis]))


@operator
class Pad(Op, frozen=True, kw_only=True, tag="pad"):
    """Constant padding; `before` and `after` per axis (>= 0), filled with the code `value`."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: int

    keeps_quant = True
    takes_empty = True

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """The operand's shape and its padding."""
        x = only(operands).shape
        require(len(self.before) == len(self.after) == len(x), "needs padding for each axis")
        require(-128 <= self.value <= 127, "the padding is not an int8 code")
        require(all(p >= 0 for p in (*self.before, *self.after)), "padding is negative")
        return tuple(b + d + a for b, d, a in zip(self.before, x, self.after, strict=True))

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """The operand with `value` around it."""
        return np.pad(only(operands), tuple(zip(self.before, self.after, strict=True)), constant_values=self.value)


@operator
class Broadcast(Op, frozen=True, kw_only=True, tag="broadcast"):
    """x repeated along axes of size 1 (and new leading ones) up to the output's shape."""

    keeps_quant = True

    def result_shape(self, graph: Graph, operands: Sequence[Tensor]) -> Shape:
        """Any shape the operand broadcasts to."""
        x, shape = only(operands).shape, self.output_shape(graph)
        require(broadcast_shape(x, shape) == shape, f"{x} does not broadcast to {shape}")
        return shape

    def evaluate(self, graph: Graph, operands: Sequence[Array]) -> Array:
        """The operand, repeated."""
        return np.broadcast_to(only(operands), self.output_shape(graph)).copy()

    def is_identity(self, graph: Graph) -> bool:
        """Always, given the same shape."""
        return True
