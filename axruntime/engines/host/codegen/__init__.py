"""Kernels: each family is a list of parameter names and a builder, both functions of a specialisation."""

from collections.abc import Callable
from typing import Any

from axruntime.engines.host.codegen import amx, conv, depthwise, nd, planes, reduce, spatial
from axruntime.engines.host.codegen.kit import Fn

#: family -> (parameter names of a specialisation, builder(name, specialisation, isa))
families: dict[str, tuple[Callable[[Any], tuple[str, ...]], Callable[..., Fn]]] = {
    "nd": (nd.params, nd.build),
    "conv": (lambda _: conv.CONV, conv.build),
    "amx": (lambda _: amx.AMX, amx.build),
    "depthwise": (lambda _: depthwise.DEPTHWISE, depthwise.build),
    "planes": (lambda _: planes.PLANES, planes.build),
    "spatial": (spatial.params, spatial.build),
    "reduce": (reduce.params, reduce.build),
}
