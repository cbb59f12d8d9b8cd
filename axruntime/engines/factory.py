"""Opens the engine that a user asks for by name."""

from difflib import get_close_matches
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.engines import Engine

NAMES = ("aipu-host", "sim", "reference", "onnx", "torch")


def open_engine(pipe: str, path: Path | str, *, threads: int = 0) -> Engine:
    """An engine with the model at `path`: an `.axmodel`, or for `onnx` and `torch` the fp32 ONNX.

    threads: 0 lets the engine choose. Raises AxforgeError on an unknown engine or a file that is not sound.
    """
    path = Path(path)
    if pipe not in NAMES:
        near = get_close_matches(pipe, NAMES, 1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise AxforgeError(f"there is no engine '{pipe}'", fix=f"{hint}Engines are: {', '.join(NAMES)}.")
    if pipe in ("onnx", "torch"):
        from axforge.axruntime.engines.onnx import OnnxEngine

        return OnnxEngine(path, threads=threads)
    return _compiled(pipe, path, threads)


def _compiled(pipe: str, path: Path, threads: int) -> Engine:
    from axforge.axruntime.axmodel import AxModel

    model = AxModel.open(path, program=pipe == "sim")
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
