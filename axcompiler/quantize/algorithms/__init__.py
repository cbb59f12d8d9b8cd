"""Quantization algorithms, one a file. Every file here is imported, and registers its algorithm."""

from collections.abc import Mapping

from axforge.axcompiler.discovery import import_modules
from axforge.axcompiler.quantize.algorithm import ALGORITHMS, Algorithm
from axforge.axcompiler.stages import Option

import_modules(__name__, __path__)


def on_by_default() -> list[str]:
    """Names of the algorithms that run when no configuration names them, sorted."""
    return [name for name in ALGORITHMS.names() if ALGORITHMS.find(name, "").on]


def create(name: str, options: Mapping[str, Option], where: str) -> Algorithm:
    """An algorithm with its options. where: the configuration key that names it. Raises CompileError for unknown names and bad values."""
    return ALGORITHMS.create(name, options, where)
