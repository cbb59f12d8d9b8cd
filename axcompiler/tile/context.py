"""What the lowering of an operator needs: the graph, the places of its tensors, weights, and where instructions go.

`lowers` is the table of lowerings: `@lowers(ir.Conv)` above a function `(TileContext, ir.Conv)` makes it the lowering of that operator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Epilogue, Graph, quant_of
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.program import Kind
from axforge.axcompiler.registry import Registry
from axforge.axcompiler.strides import dense
from axforge.axcompiler.tile.emit import ProgramEmitter
from axforge.axcompiler.tile.memory import MemoryPlan, Place
from axforge.axcompiler.tile.views import View
from axforge.axcompiler.tile.weights import Weights


@dataclass
class TileContext:
    """What every lowering is given."""

    graph: Graph
    emitter: ProgramEmitter
    plan: MemoryPlan
    weights: Weights

    def place(self, name: str) -> Place:
        """The place of a tensor in memory."""
        return self.plan.places[name]

    def view(self, name: str) -> View:
        """A tensor in its logical axis order."""
        return self.plan.places[name].view

    def zero(self, name: str) -> int:
        """Zero point of a tensor."""
        return quant_of(self.graph, name).zero_point

    def const(self, name: str) -> Array:
        """Value of a constant."""
        return np.asarray(self.graph.constants[name])


@dataclass(frozen=True)
class Parameters:
    """An operator's bias, multipliers and table in L1 of one core; bias and multiplier are vectors over channels, or None."""

    bias: View | None
    multiplier: View | None
    table: View | None
    epilogue: Epilogue

    @staticmethod
    def pack(ctx: TileContext, epilogue: Epilogue, bias: NDArray[np.int32] | None, multiplier: NDArray[np.float32] | None) -> View | None:
        """The parameters as one block in CONST (int32 bias, float32 multipliers, int8 table), or None if there are none."""
        parts = [v.reshape(-1).view(np.int8) for v in (bias, multiplier) if v is not None]
        if epilogue.table is not None:
            parts.append(ctx.const(epilogue.table))
        return ctx.emitter.constant(np.concatenate(parts)) if parts else None

    @staticmethod
    def load(ctx: TileContext, core: int, block: View | None, epilogue: Epilogue, bias: int, multiplier: int) -> "Parameters":
        """`block` copied to L1. bias, multiplier: number of entries (0: none)."""
        if block is None:
            return Parameters(None, None, None, epilogue)
        tile = ctx.emitter.load(core, block)
        b = dense(tile.buffer, (bias,), Kind.INT32) if bias else None
        m = dense(tile.buffer, (multiplier,), Kind.FLOAT32, 4 * bias) if multiplier else None
        t = dense(tile.buffer, (256,), Kind.INT8, 4 * (bias + multiplier)) if epilogue.table is not None else None
        return Parameters(b, m, t, epilogue)

    def row(self, ctx: TileContext, bias: View | None, multiplier: View | None) -> int:
        """An epilogue record with these broadcast views of bias and multiplier."""
        e = self.epilogue
        return ctx.emitter.epilogue(e.zero_point, e.lo, e.hi, bias, multiplier, self.table)

    def per_channel(self, ctx: TileContext, shape: tuple[int, ...], start: int) -> int:
        """An epilogue record for an accumulator of this shape whose last axis is channels from `start` on."""
        count = shape[-1]

        def spread(view: View | None) -> View | None:
            return view.cut(0, start, count).broadcast(shape) if view is not None else None

        return self.row(ctx, spread(self.bias), spread(self.multiplier))


#: the lowering of each operator
lowers: Registry[type[ir.Op], Callable[[TileContext, Any], None]] = Registry("a lowering for the AIPU")


def wrap32(value: NDArray[np.int64]) -> NDArray[np.int32]:
    """int64 to int32 modulo 2**32, as the accumulators count."""
    return (value & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def nhwc(view: View) -> View:
    """[N, C, H, W] as [N, H, W, C]."""
    return view.permute((0, 2, 3, 1))


def output(op: ir.Op) -> str:
    """The one result of an operator."""
    return op.outputs[0]
