"""Range schemes, one a file. Every file here is imported, and registers its scheme."""

from collections.abc import Mapping

from axforge.axcompiler.discovery import import_modules
from axforge.axcompiler.quantize.range_scheme import SCHEMES, RangeScheme
from axforge.axcompiler.quantize.registry import option_names
from axforge.axcompiler.stages import Scalar

import_modules(__name__, __path__)


def names() -> list[str]:
    """Names of all schemes, sorted."""
    return SCHEMES.names()


def options(name: str, where: str) -> list[str]:
    """Names of a scheme's options. Raises CompileError for an unknown scheme."""
    return option_names(SCHEMES.find(name, where))


def create(name: str, options: Mapping[str, Scalar], where: str) -> RangeScheme:
    """A scheme with its options. where: the configuration key that names it. Raises CompileError for unknown names and bad values."""
    return SCHEMES.create(name, options, where)
