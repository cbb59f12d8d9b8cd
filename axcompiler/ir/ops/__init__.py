"""The operators of the fused graph, one file per operator or small family: fields, rules, shape, evaluation and multiply-adds.

A file that is here is part of the format; nothing lists it.
"""

from axforge.axcompiler.registry import load_modules

load_modules(__name__)
