"""Range schemes, one in each file. Every file here is imported, and registers its scheme."""

from collections.abc import Mapping

from axforge.axcompiler.choices import nearest, option_names
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.quantize.range_scheme import SCHEMES, RangeScheme
from axforge.axcompiler.registry import load_modules
from axforge.axcompiler.stages import Scalar

load_modules(__name__)

__all__ = ["EFFECT", "SCHEMES", "VENDOR", "create", "names", "options", "resolved"]

#: not a scheme but a choice among schemes, tensor by tensor, by what they do to the outputs
EFFECT = "effect"
#: names that the vendor's compiler has for schemes. Its hybrid one gives the channels before depthwise convolutions ranges of their own,
#: which here the rewriting algorithm `split_channels` does with any scheme.
VENDOR = {"per_tensor_min_max": "minmax", "per_tensor_histogram": "mse", "hybrid_per_tensor_per_channel": EFFECT}


def names() -> list[str]:
    """Names that a configuration may give as a scheme, without the vendor's, sorted."""
    return sorted({*SCHEMES, EFFECT})


def resolved(name: str, where: str) -> str:
    """The name here of a scheme, `effect` among them. where: the configuration key that names it. Raises CompileError if there is none."""
    known = VENDOR.get(name, name)
    if known not in names():
        raise CompileError(f"there is no range scheme '{name}'", where=where, fix=nearest(name, [*names(), *VENDOR], "range scheme"))
    return known


def options(name: str, where: str) -> list[str]:
    """Names of a scheme's options. Raises CompileError for an unknown scheme."""
    known = resolved(name, where)
    return option_names(SCHEMES[known]) if known in SCHEMES else []


def create(name: str, options: Mapping[str, Scalar], where: str) -> RangeScheme:
    """A scheme with its options. where: the configuration key that names it. Raises CompileError for unknown names and bad values."""
    return SCHEMES.create(VENDOR.get(name, name), options, where)
