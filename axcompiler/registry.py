"""One registered function or class per key, each in a module that only has to be there.

A package of such modules calls `load_modules(__name__)`; every module of it is then imported, so that adding a file is all there is to do.
"""

import importlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def load_modules(package: str) -> tuple[ModuleType, ...]:
    """Import a package (by its name) and every module beside its `__init__.py`, in the order of their names, and give them."""
    folders = [Path(folder) for folder in importlib.import_module(package).__path__]
    names = sorted(file.stem for folder in folders for file in folder.glob("*.py") if file.stem != "__init__")
    return tuple(importlib.import_module(f"{package}.{name}") for name in names)


class Registry(Mapping[K, V], Generic[K, V]):
    """A table that decorators fill: `@lowers(ir.Conv)` above a function registers it for the key `ir.Conv`.

    what: what is registered, for error messages. A key that is registered twice is a TypeError, when the second module is imported.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._found: dict[K, V] = {}

    def __call__(self, *keys: K) -> Callable[[V], V]:
        """A decorator that registers what follows for `keys`."""

        def register(value: V) -> V:
            for key in keys:
                if key in self._found:
                    raise TypeError(f"{key!r} has two entries as {self.what}: {self._found[key]!r} and {value!r}")
                self._found[key] = value
            return value

        return register

    def __getitem__(self, key: K) -> V:
        return self._found[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
