"""Registered classes made from options: algorithms and range schemes are frozen dataclasses whose fields are their options."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

import msgspec

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.registry import Registry
from axforge.axcompiler.stages import Option

T = TypeVar("T")


class Choices(Registry[str, type[T]], Generic[T]):
    """Classes by the name that configurations use. what: what an error calls one of them, such as 'range scheme'."""

    def find(self, name: str, where: str) -> type[T]:
        """The class of that name. where: the key of the configuration that names it. Raises CompileError for an unknown name."""
        if name not in self:
            raise CompileError(f"there is no {self.what} '{name}'", where=where, fix=nearest(name, self, self.what))
        return self[name]

    def create(self, name: str, options: Mapping[str, Option], where: str) -> T:
        """An instance with these options. Raises CompileError for an unknown name, an unknown option or a value of the wrong type."""
        kind = self.find(name, where)
        known = option_names(kind)
        for key in options:
            if key not in known:
                raise CompileError(f"{self.what} '{name}' has no option '{key}'", where=where, fix=nearest(key, known, "option"))
        try:
            return msgspec.convert(options, kind)
        except msgspec.ValidationError as e:
            raise CompileError(f"{self.what} '{name}': {str(e)[:1].lower()}{str(e)[1:]}", where=where) from None


def option_names(kind: type[object]) -> list[str]:
    """Names of the options of a registered class, sorted."""
    return sorted(f.name for f in dataclasses.fields(kind))  # type: ignore[arg-type]


def nearest(name: str, known: Iterable[str], kind: str) -> str:
    """A sentence that names the nearest known name, if one is near, and lists all."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = f"Known {kind}s: {', '.join(names)}." if names else f"It takes no {kind}."
    return f"Did you mean '{near[0]}'? {listed}" if near else listed
