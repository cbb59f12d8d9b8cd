"""Algorithms of the quantize stage, one in each file. Every file here is imported, and registers its algorithm."""

from axforge.axcompiler.quantize.algorithm import ALGORITHMS
from axforge.axcompiler.registry import load_modules

load_modules(__name__)

__all__ = ["ALGORITHMS"]
