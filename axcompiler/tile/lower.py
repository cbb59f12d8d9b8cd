"""Graph in, program out: the lowering of each operator in their order, with a barrier after each; then passes over the whole program."""

from axforge.axcompiler import ir
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.passes import Observer, Runner, ignore
from axforge.axcompiler.program import Program, ProgramHeader, Space, fits
from axforge.axcompiler.stages import Progress, silent
from axforge.axcompiler.target import Target
from axforge.axcompiler.tile.context import TileContext, lowers
from axforge.axcompiler.tile.emit import ProgramEmitter
from axforge.axcompiler.tile.lowerings.movement import reshape_staging
from axforge.axcompiler.tile.memory import MemoryPlan, plan
from axforge.axcompiler.tile.passes import PASSES
from axforge.axcompiler.tile.weights import Weights


def compile_program(
    graph: Graph, target: Target, cores: int, progress: Progress = silent, observe: Observer = ignore
) -> tuple[Program, MemoryPlan]:
    """The program of a checked graph for `cores` cores, and its memory plan. observe: is called after each pass. Raises CompileError."""
    emitter = ProgramEmitter(target, cores, graph.name)
    weights = Weights(emitter)
    constants = {n: weights.add(n, graph.constants[n], "plain") for n in graph.tensors if n in graph.constants}
    ctx = TileContext(graph, emitter, plan(graph, emitter, reshape_staging(graph), constants), weights)
    for i, op in enumerate(graph.ops):
        progress(i, len(graph.ops), op.name)
        emitter.begin(i, op.name)
        _lower(ctx, op)
        emitter.barrier()
    emitter.finish()
    progress(len(graph.ops), len(graph.ops), "")
    return Runner(_finish(ctx, cores), observe).run(PASSES), ctx.plan


def _lower(ctx: TileContext, op: ir.Op) -> None:
    if not isinstance(op, ir.Island):
        sizes = {name: ctx.view(name).size for name in (*op.inputs, *op.outputs)}
        if not sizes[op.outputs[0]]:
            return
        if not all(sizes.values()) and not op.takes_empty:
            raise CompileError(f"layer '{op.name}' makes something of an empty tensor, which the AIPU cannot", where=ctx.graph.name)
    lowers[type(op)](ctx, op)


def _finish(ctx: TileContext, cores: int) -> Program:
    em = ctx.emitter
    places = {name: em.operand(place.view) for name, place in ctx.plan.places.items() if place.view.size}
    buffers = em.buffers()
    images, const_size = ctx.weights.finish(buffers)

    def end(space: Space) -> int:
        rows = buffers[buffers["space"] == int(space)]
        return int((rows["offset"] + rows["size"]).max()) if len(rows) else 0

    header = ProgramHeader(
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
