"""Algorithms that rewrite the float model before it is measured, one in each file. Every file here is imported, and registers it."""

from axforge.axcompiler.registry import load_modules
from axforge.axcompiler.rewrites.base import REWRITES

load_modules(__name__)

__all__ = ["REWRITES"]
