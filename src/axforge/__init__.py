"""axforge: from ONNX to an int8 `.axmodel`, and running it without hardware.

    from axforge import Model, compile

    Model(path)              a compiled model, ready to run: help(axforge.Model)
    stream(model, source)    typed results of the frames of a video: help(axforge.stream)
    compile(onnx, samples)   compiles an ONNX model and gives a Model: help(axforge.compile)

The packages are the folders at the top of the repository; links in `src/axforge` give them their import names:
`axcompiler/ir.py` is `axforge.axcompiler.ir`. So no name of ours can meet a `tasks.py` or `cache.py` of a user's project.
Importing this package loads nothing heavy.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from axforge.axcompiler.errors import AxforgeError
    from axforge.axruntime.model import Model
    from axforge.library import compile, stream

__version__ = "0.1.0"
__all__ = ["AxforgeError", "Model", "__version__", "compile", "stream"]
#: Where they are, without the namespace: a whole name would count as code that every stage runs (tasks/stages/code.py).
_HOMES = {"AxforgeError": "axcompiler.errors", "Model": "axruntime.model", "compile": "library", "stream": "library"}


def __getattr__(name: str) -> object:
    """The names above, loaded when they are first used: the commands import this package and must start at once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'axforge' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
