"""The table of kernel families: each is one module of `kernels`, whose code generators are registered here by their parameters."""

from collections.abc import Callable
from typing import Any

from axforge.axcompiler.registry import Registry
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn
from axforge.axruntime.engines.host.codegen.params import Kernel

#: by class of parameters (derived from `Params`): writes the body from the parameters as `Param`
kernel: Registry[type, Callable[[Fn, Any], None]] = Registry("the code generator of a kernel family")


def generate(symbol: str, wanted: Kernel, isa: Isa) -> Fn:
    """The code of one kernel."""
    f = Fn(symbol, isa)
    kernel[type(wanted)](f, f.params(wanted))
    return f
