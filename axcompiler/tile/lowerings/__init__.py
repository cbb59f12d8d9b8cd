"""How each operator of the fused graph becomes instructions, one file per operator or small family.

A file that is here is found; nothing lists it. A lowering is a function `(TileContext, operator)` under `@lowers(ir.X)`.
"""

from axforge.axcompiler.registry import load_modules

load_modules(__name__)
