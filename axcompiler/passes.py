"""One type of pass and one runner, for every form that a model takes: the ONNX model, the fused graph, the AIPU program.

A pass is a frozen dataclass in a module of its own: its docstring shows the rewrite, its fields are its options, `at` is its place in
the order of its stage, and it reports what it changed. A stage finds its passes by importing all modules of its package `passes`
(`ordered`), and has them in one tuple, `PASSES`, in the order in which they run.
"""

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

from axforge.axcompiler.errors import AxforgeError

T = TypeVar("T")


class PassError(Exception):
    """A pass failed, or broke what it promises: a defect of the compiler. The message names the pass."""


@dataclass(frozen=True)
class Property(Generic[T]):
    """Something that holds for a model in one of its forms; `check` raises an exception where it does not."""

    name: str
    check: Callable[[T], None]


@dataclass(frozen=True)
class PassResult(Generic[T]):
    """What a pass gives: the model, and a note on each change. Without a note the model is the very object that went in."""

    ir: T
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pass(ABC, Generic[T]):
    """A rewrite that keeps what the model computes. The runner checks `requires` before it and `ensures` after it.

    at: its place in the order of its stage, or several if it runs several times. Places have gaps, so that a new pass fits between.
    """

    at: ClassVar[tuple[int, ...]] = ()
    requires: ClassVar[tuple[Property[Any], ...]] = ()
    ensures: ClassVar[tuple[Property[Any], ...]] = ()

    @abstractmethod
    def apply(self, ir: T) -> PassResult[T]:
        """Rewrite the model once."""

    @staticmethod
    @abstractmethod
    def text(ir: T) -> str:
        """The model as text that a person can read, an operator on each line."""

    @property
    def name(self) -> str:
        """The name under which the command line knows the pass: `FuseTables` is `fuse-tables`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (type(self).__doc__ or "").strip().splitlines()[0].strip()

    @property
    def options(self) -> dict[str, Any]:
        """The options and their values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def ordered(modules: Iterable[ModuleType]) -> tuple[Pass[Any], ...]:
    """The passes that `modules` define, with their default options, each at all of its places.

    Raises TypeError for a pass that has no place, and for two passes at one place.
    """
    places: dict[int, type[Pass[Any]]] = {}
    for module in modules:
        for kind in vars(module).values():
            if not isinstance(kind, type) or kind.__module__ != module.__name__ or not issubclass(kind, Pass) or inspect.isabstract(kind):
                continue
            if not kind.at:
                raise TypeError(f"pass {kind.__name__} has no place: `at` is empty")
            for place in kind.at:
                if place in places:
                    raise TypeError(f"passes {places[place].__name__} and {kind.__name__} are both at place {place}")
                places[place] = kind
    return tuple(places[place]() for place in sorted(places))


#: is called after each pass, with its result
Observer = Callable[[Pass[Any], PassResult[Any]], None]


def ignore(one: Pass[Any], result: PassResult[Any]) -> None:
    """No-op observer."""


class Runner(Generic[T]):
    """Runs passes on one model, and checks only those properties that are not known to hold already."""

    def __init__(self, ir: T, observe: Observer = ignore) -> None:
        self.ir = ir
        self._observe = observe
        self._holding: set[Property[Any]] = set()

    def require(self, one: Property[T]) -> None:
        """Check a property of the model as it came, before any pass; exceptions are those of the property."""
        one.check(self.ir)
        self._holding.add(one)

    def run(self, passes: Iterable[Pass[T]]) -> T:
        """Run each pass once, in order."""
        for one in passes:
            self.apply(one)
        return self.ir

    def apply(self, one: Pass[T]) -> PassResult[T]:
        """Run one pass. Raises PassError if it fails, or breaks a promise; an AxforgeError gets a note with the pass's name."""
        try:
            self._check(one.requires, f"before pass '{one.name}'")
            result = one.apply(self.ir)
            if not result.changed and result.ir is not self.ir:
                raise PassError(f"pass '{one.name}' reports no change and gives another object")
            if result.changed:
                self._holding.clear()
            self.ir = result.ir
            self._check(one.ensures, f"after pass '{one.name}'")
        except PassError:
            raise
        except AxforgeError as e:
            e.add_note(f"in pass '{one.name}'")
            raise
        except Exception as e:
            raise PassError(f"pass '{one.name}' failed: {e}") from e
        self._observe(one, result)
        return result

    def _check(self, properties: Sequence[Property[Any]], when: str) -> None:
        for one in properties:
            if one in self._holding:
                continue
            try:
                one.check(self.ir)
            except AxforgeError:
                raise
            except Exception as e:
                raise PassError(f"{when}, the model is not {one.name}: {e}") from e
            self._holding.add(one)


P = TypeVar("P", bound=Pass[Any])


def with_options(passes: Iterable[P], **options: object) -> tuple[P, ...]:
    """The passes with those of the options that each of them has."""
    return tuple(replace(one, **{k: v for k, v in options.items() if k in one.options}) for one in passes)
