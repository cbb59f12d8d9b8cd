"""Finding the modules of a package, so that adding one of them is adding a file."""

import importlib
import pkgutil


def import_all(package: str) -> None:
    """Import every module of `package`, in the order of their names; what they register is known afterwards."""
    for module in sorted(info.name for info in pkgutil.iter_modules(importlib.import_module(package).__path__)):
        importlib.import_module(f"{package}.{module}")
