"""What the passes of the tile stage share: they rewrite the finished program of a graph."""

from dataclasses import dataclass

from axforge.axcompiler.disassembly import disassembly
from axforge.axcompiler.passes import Pass
from axforge.axcompiler.program import Program


@dataclass(frozen=True)
class ProgramPass(Pass[Program]):
    """A pass on the program of all cores."""

    @staticmethod
    def text(ir: Program) -> str:
        """The program as text, an instruction on each line."""
        return disassembly(ir) + "\n"
