"""What all quantization algorithms have in common, whichever stage applies them.

An algorithm is a frozen dataclass in a file of its own; its fields are its options. Those in `rewrites/` rewrite the float model while
calibrating, those in `quantize/algorithms/` choose integers in the quantize stage.
"""

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from axforge.axcompiler.choices import Choices
from axforge.axcompiler.stages import AlgorithmOptions


@dataclass(frozen=True)
class Algorithm(ABC):
    """An algorithm. name: what configurations call it. on: whether it runs when no configuration names it."""

    name: ClassVar[str]
    on: ClassVar[bool] = False


_Kind = TypeVar("_Kind", bound=Algorithm)


def switched_on(known: Choices[_Kind], settings: Mapping[str, AlgorithmOptions]) -> list[_Kind]:
    """Those of the `known` algorithms that are on by default or switched on, in the order of their names.

    Raises CompileError for unknown names, unknown options and values of the wrong type.
    """
    wanted: dict[str, AlgorithmOptions] = {**{name: True for name, kind in known.items() if kind.on}, **settings}
    created = {
        name: known.create(name, options if isinstance(options, dict) else {}, f"quantize.algorithms.{name}")
        for name, options in sorted(wanted.items())
    }
    return [algorithm for name, algorithm in created.items() if wanted[name] is not False]
