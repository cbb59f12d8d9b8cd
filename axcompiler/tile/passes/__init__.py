"""The passes of the tile stage, one in each module, in the order in which they run. A module that is here is found."""

from axforge.axcompiler.passes import ordered
from axforge.axcompiler.registry import load_modules
from axforge.axcompiler.tile.program_pass import ProgramPass

PASSES: tuple[ProgramPass, ...] = tuple(one for one in ordered(load_modules(__name__)) if isinstance(one, ProgramPass))
