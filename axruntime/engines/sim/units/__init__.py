"""What each instruction does, one file per unit. A file that is here is found; nothing lists it."""

from axforge.axcompiler.registry import load_modules

load_modules(__name__)
