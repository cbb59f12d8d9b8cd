"""The passes of the optimize stage, one in each module, in the order in which they run. A module that is here is found."""

from axforge.axcompiler.optimize.graph_edit import GraphPass
from axforge.axcompiler.passes import ordered
from axforge.axcompiler.registry import load_modules

PASSES: tuple[GraphPass, ...] = tuple(one for one in ordered(load_modules(__name__)) if isinstance(one, GraphPass))
