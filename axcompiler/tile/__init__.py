"""tile: the fused graph becomes a program for 1 to 4 cores: tiles in L1, tensors in L2 and DDR, instruction streams."""

from collections.abc import Mapping
from pathlib import Path

from axforge.axcompiler import container, graphfile, target
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.passes import Observer, ignore
from axforge.axcompiler.program import to_bytes
from axforge.axcompiler.stages import Progress, TileConfig, silent
from axforge.axcompiler.tile.lower import compile_program
from axforge.axcompiler.tile.passes import PASSES
from axforge.axcompiler.tile.schedule import schedule_json

__all__ = ["PASSES", "run"]


def run(inputs: Mapping[str, Path], config: TileConfig, out: Path, progress: Progress = silent, *, observe: Observer = ignore) -> None:
    """graph.axgraph -> program.axprogram, schedule.json. observe: is called after each pass.

    Raises CompileError for a layer that does not fit.
    """
    graph = graphfile.load(inputs["graph.axgraph"])
    aipu = target.load(config.target)
    if not 1 <= config.cores <= aipu.cores:
        raise CompileError(f"{config.cores} cores are asked for", where=graph.name, fix=f"'{aipu.name}' has 1 to {aipu.cores}.")
    program, plan = compile_program(graph, aipu, config.cores, progress, observe)
    container.write_atomic(out / "program.axprogram", to_bytes(program))
    container.write_atomic(out / "schedule.json", schedule_json(graph, program, plan, aipu))
