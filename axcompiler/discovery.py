"""Imports every module of a package, so that a file placed there registers itself."""

import importlib
import pkgutil
from collections.abc import Iterable


def import_modules(package: str, path: Iterable[str]) -> None:
    """Import all modules of a package in the order of their names. Called by a package's `__init__` with its __name__ and __path__."""
    for module in sorted(pkgutil.iter_modules(path), key=lambda m: m.name):
        importlib.import_module(f"{package}.{module.name}")
