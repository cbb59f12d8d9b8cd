"""Quantization algorithms, one a file. Every file here is imported, and registers its algorithm."""

from collections.abc import Mapping

from axforge.axcompiler.quantize.algorithm import ALGORITHMS, Algorithm
from axforge.axcompiler.registry import load_modules
from axforge.axcompiler.stages import Option

load_modules("axforge.axcompiler.quantize.algorithms")


def on_by_default() -> list[str]:
    """Names of the algorithms that run when no configuration names them, sorted."""
    return sorted(name for name, kind in ALGORITHMS.items() if kind.on)


def create(name: str, options: Mapping[str, Option], where: str) -> Algorithm:
    """An algorithm with its options. where: the configuration key that names it. Raises CompileError for unknown names and bad values."""
    return ALGORITHMS.create(name, options, where)
