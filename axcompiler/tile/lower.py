"""Every operator's lowering in turn, between barriers: graph in, program out."""

from collections.abc import Callable
from typing import Any

from axforge.axcompiler import ir
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.program import Header, Program, Space, fits
from axforge.axcompiler.stages import Progress, silent
from axforge.axcompiler.target import Target
from axforge.axcompiler.tile import along, convolution, copies, elementwise, products, resize, spatial
from axforge.axcompiler.tile.context import Context
from axforge.axcompiler.tile.emit import Emitter
from axforge.axcompiler.tile.memory import Plan, plan
from axforge.axcompiler.tile.weights import Weights


def _island(ctx: Context, op: ir.Island) -> None:
    """The host reads and writes DDR while the cores wait."""
    ctx.emitter.op(0, Opcode.HOST, operator=ctx.emitter.layer)


LOWERINGS: dict[type[ir.Op], Callable[[Context, Any], None]] = {
    ir.Conv: convolution.lower_conv,
    ir.ConvTranspose: convolution.lower_conv,
    ir.FullyConnected: products.lower_fully_connected,
    ir.MatMul: products.lower_matmul,
    ir.Add: elementwise.lower_pointwise,
    ir.Mul: elementwise.lower_pointwise,
    ir.Table: elementwise.lower_table,
    ir.MaxPool: spatial.lower_max_pool,
    ir.AveragePool: spatial.lower_average_pool,
    ir.ReduceSum: along.lower_reduce,
    ir.ReduceMax: along.lower_reduce,
    ir.ResizeLinear: resize.lower_resize,
    ir.Concat: copies.lower_concat,
    ir.Reshape: copies.lower_reshape,
    ir.Transpose: copies.lower_transpose,
    ir.Slice: copies.lower_slice,
    ir.Take: copies.lower_take,
    ir.Pad: copies.lower_pad,
    ir.Broadcast: copies.lower_broadcast,
    ir.Softmax: along.lower_softmax,
    ir.Island: _island,
}


def compile_program(graph: Graph, target: Target, cores: int, progress: Progress = silent) -> tuple[Program, Plan]:
    """The program of a checked graph for `cores` cores, and its memory plan. Raises CompileError."""
    emitter = Emitter(target, cores, graph.name)
    weights = Weights(emitter)
    constants = {n: weights.add(n, graph.constants[n], "plain") for n in graph.tensors if n in graph.constants}
    ctx = Context(graph, emitter, plan(graph, emitter, _staging(graph), constants), weights)
    for i, op in enumerate(graph.ops):
        progress(i, len(graph.ops), op.name)
        emitter.begin(i, op.name)
        _lower(ctx, op)
        emitter.barrier()
    emitter.finish()
    progress(len(graph.ops), len(graph.ops), "")
    return _finish(ctx, cores), ctx.plan


def _lower(ctx: Context, op: ir.Op) -> None:
    if not isinstance(op, ir.Island):
        sizes = {name: ctx.view(name).size for name in (*op.inputs, *op.outputs)}
        if not sizes[op.outputs[0]]:
            return
        if not all(sizes.values()) and not isinstance(op, ir.Concat | ir.Pad):
            raise CompileError(f"layer '{op.name}' makes something of an empty tensor, which the AIPU cannot", where=ctx.graph.name)
    LOWERINGS[type(op)](ctx, op)


def _staging(graph: Graph) -> dict[int, int]:
    """Bytes of row-major staging by layer, for reshapes that are no single strided copy."""
    out = {}
    for i, op in enumerate(graph.ops):
        if isinstance(op, ir.Reshape):
            x, y = (graph.tensors[n].shape for n in (op.inputs[0], op.outputs[0]))
            if 0 not in x and copies.needs_staging(x, y):
                size = 1
                for d in x:
                    size *= d
                out[i] = size
    return out


def _finish(ctx: Context, cores: int) -> Program:
    em = ctx.emitter
    places = {name: em.operand(place.view) for name, place in ctx.plan.places.items() if place.view.size}
    buffers = em.buffers()
    images, const_size = ctx.weights.finish(buffers)

    def end(space: Space) -> int:
        rows = buffers[buffers["space"] == int(space)]
        return int((rows["offset"] + rows["size"]).max()) if len(rows) else 0

    header = Header(
        target=em.target.name,
        cores=cores,
        layers=tuple(op.name for op in ctx.graph.ops),
        places=places,
        ports=ctx.plan.ports,
        images=images,
        const_size=const_size,
        ddr_size=end(Space.DDR),
        l2_size=end(Space.L2),
        l1_size=end(Space.L1),
    )
    if (why := fits(em.target, header)) is not None:
        raise CompileError(f"the model does not fit: {why}", where=ctx.graph.name, fix="Make the input smaller, or use a smaller model.")
    return Program(header, em.streams(), buffers, em.operands(), em.epilogues(), em.constants())
