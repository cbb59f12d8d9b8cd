"""Range schemes, one a file. Every file here is imported, and registers its scheme."""

from collections.abc import Mapping

from axforge.axcompiler.choices import option_names
from axforge.axcompiler.quantize.range_scheme import SCHEMES, RangeScheme
from axforge.axcompiler.registry import load_modules
from axforge.axcompiler.stages import Scalar

load_modules(__name__)


def names() -> list[str]:
    """Names of all schemes, sorted."""
    return sorted(SCHEMES)


def options(name: str, where: str) -> list[str]:
    """Names of a scheme's options. Raises CompileError for an unknown scheme."""
    return option_names(SCHEMES.find(name, where))


def create(name: str, options: Mapping[str, Scalar], where: str) -> RangeScheme:
    """A scheme with its options. where: the configuration key that names it. Raises CompileError for unknown names and bad values."""
    return SCHEMES.create(name, options, where)
