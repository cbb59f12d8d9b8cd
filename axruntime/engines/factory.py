"""Opens the engine that a user asks for by name."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.engines import Engine

if TYPE_CHECKING:
    from axforge.axruntime.axmodel import AxModel

#: Engines that run a compiled model.
COMPILED = ("aipu-host", "sim", "reference")
NAMES = (*COMPILED, "onnx", "torch")


def open_engine(pipe: str, path: Path | str, *, threads: int = 0) -> Engine:
    """An engine with the model at `path`: an `.axmodel`, or for `onnx` and `torch` the fp32 ONNX.

    threads: 0 lets the engine choose. Raises AxforgeError on an unknown engine or a file that is not sound.
    """
    path = Path(path)
    _known(pipe, NAMES)
    if pipe in ("onnx", "torch"):
        from axforge.axruntime.engines.onnx import OnnxEngine

        return OnnxEngine(path, threads=threads)
    from axforge.axruntime.axmodel import AxModel

    return engine_for(pipe, AxModel.open(path, program=pipe == "sim"), threads=threads)


def engine_for(pipe: str, model: "AxModel", *, threads: int = 0) -> Engine:
    """The engine `pipe`, one of COMPILED, with a compiled model that is open already. Raises AxforgeError on an unknown engine."""
    _known(pipe, COMPILED)
    if pipe == "sim":
        from axforge.axruntime.engines.sim.engine import SimEngine

        return SimEngine(model.graph, model.program, model.target)
    if pipe == "reference":
        from axforge.axruntime.engines.reference import ReferenceEngine

        return ReferenceEngine(model.graph)
    try:
        from axforge.axruntime.engines.host import HostEngine
    except ImportError as e:
        raise AxforgeError(
            f"the host engine cannot be loaded: {e}",
            fix="Install axforge with all its dependencies, or use the engine 'sim' or 'reference'.",
        ) from e
    return HostEngine(model, threads=threads)


def _known(pipe: str, names: Sequence[str]) -> None:
    if pipe not in names:
        near = get_close_matches(pipe, names, 1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise AxforgeError(f"there is no engine '{pipe}'", fix=f"{hint}Engines are: {', '.join(names)}.")
