"""`aipu-host`: fast int8 native code for this CPU, exactly what the AIPU computes. docs/host-engine.md explains the kernels."""

from axforge.axruntime.engines.host.engine import HostEngine

__all__ = ["HostEngine"]
