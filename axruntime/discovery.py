"""Finding the modules of a package, so that adding one of them is adding a file."""

import importlib
from pathlib import Path


def import_all(package: str) -> None:
    """Import every module of `package`, in the order of their names; what they register is known afterwards."""
    for folder in importlib.import_module(package).__path__:
        for name in sorted(file.stem for file in Path(folder).glob("*.py") if file.stem != "__init__"):
            importlib.import_module(f"{package}.{name}")
