"""Kernels: each family is a list of parameter names and a builder, both functions of a specialisation."""

from collections.abc import Callable
from typing import Any

from axforge.axruntime.engines.host.codegen import amx, border, conv, depthwise, nd, peak, planes, reduce, spatial
from axforge.axruntime.engines.host.codegen.kit import Fn

#: family -> (parameter names of a specialisation, builder(name, specialisation, isa))
families: dict[str, tuple[Callable[[Any], tuple[str, ...]], Callable[..., Fn]]] = {
    "nd": (nd.params, nd.build),
    "conv": (lambda _: conv.CONV, conv.build),
    "amx": (lambda _: amx.AMX, amx.build),
    "depthwise": (lambda _: depthwise.DEPTHWISE, depthwise.build),
    "border": (lambda _: border.BORDER, border.build),
    "peak": (lambda _: peak.PEAK, peak.build),
    "planes": (lambda _: planes.PLANES, planes.build),
    "spatial": (spatial.params, spatial.build),
    "reduce": (reduce.params, reduce.build),
}
