"""Engines: things that run a model. All give the same answer for the same `.axmodel`, bit for bit.

sim        the AIPU program, instruction by instruction, with cycle counts
aipu-host  fast int8 native code on this CPU
reference  the NumPy definition
onnx       the fp32 ONNX in onnxruntime (`torch` is another name for it); the only one that takes an ONNX
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from axforge.axcompiler.numerics import Array


class Engine(Protocol):
    """A loaded model.

    inputs, outputs: logical shape (-1 where free) and NumPy dtype of what `run` takes and gives, by name, in order.
    quantization: scale and zero point of those of them that are quantized, by name.
    """

    @property
    def name(self) -> str:
        """The name a user asks for it by."""
        ...

    @property
    def inputs(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype by name."""
        ...

    @property
    def outputs(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype by name."""
        ...

    @property
    def quantization(self) -> Mapping[str, tuple[float, int]]:
        """Scale and zero point by name."""
        ...

    def run(self, feeds: Mapping[str, Array], *, raw: bool = False) -> dict[str, Array]:
        """Outputs by name. Quantized inputs are taken as float32 or as int8 codes; raw gives int8 codes out."""
        ...

    def close(self) -> None:
        """Free what the engine holds."""
        ...


@runtime_checkable
class HasThreads(Protocol):
    """An engine that runs a frame on several threads, or several frames at once on one each.

    threads: most that a frame uses. `run` with `alone` uses the caller's only.
    """

    threads: int

    def run(self, feeds: Mapping[str, Array], *, raw: bool = False, alone: bool = False) -> dict[str, Array]:
        """Outputs by name, as `Engine.run`."""
        ...
