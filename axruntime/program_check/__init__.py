"""The rules a program keeps, as code. `check` runs on every program that is read, so that the simulator may rely on them.

Every index, shape and offset is inside its table or buffer; every buffer is inside its memory, and no two that are live together
share a byte; every operand is used while its buffer lives, by the core that owns its L1; operands have the types and shapes, and
immediates the values, that `isa.py` gives their instruction; indices that decide addresses are inside their range; signals and waits
come to an end.
"""

from axforge.axcompiler.ir import Graph
from axforge.axcompiler.program import Program, fits
from axforge.axcompiler.target import Target
from axforge.axruntime.program_check.rules import ProgramError, require
from axforge.axruntime.program_check.streams import Operands, check_stream, check_synchronisation
from axforge.axruntime.program_check.tables import check_tables

__all__ = ["ProgramError", "check"]


def check(program: Program, graph: Graph, target: Target) -> None:
    """Raises ProgramError at the first rule that `program`, which runs `graph` on `target`, breaks."""
    require((why := fits(target, program.header)) is None, f"the program does not fit the AIPU: {why}")
    require(program.header.layers == tuple(op.name for op in graph.ops), "the program was made of another graph")
    check_tables(program, graph)
    operands = Operands(program)
    for core, stream in enumerate(program.streams):
        check_stream(operands, graph, target, core, stream)
    check_synchronisation(program)
