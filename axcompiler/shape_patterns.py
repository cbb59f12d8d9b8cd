"""Patterns of shapes: how an instruction says what shapes its operands have and how they relate.

A pattern is axes, separated by spaces: a number (`256`), a name (`H`: any size, the same wherever the name appears), a run of any number
of axes (`S*`; `S+`: at least one), or a run with as many axes as an immediate says (`P{axes}`).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

Shape = tuple[int, ...]
Bindings = dict[str, Shape]

_AXIS = re.compile(r"(?P<size>\d+)|(?P<name>[A-Z]+)(?P<run>[*+]|\{(?P<count>[a-z_]+)\})?")


class ShapeError(Exception):
    """A shape does not match a pattern; the message says which."""


@dataclass(frozen=True)
class PatternAxis:
    """One part of a pattern. size: a fixed number; open: a run of `least` axes or more; count: the immediate that counts a run."""

    name: str
    size: int | None = None
    open: bool = False
    least: int = 0
    count: str = ""


@cache
def parse(pattern: str) -> tuple[PatternAxis, ...]:
    """The parts of a pattern. Raises ValueError if it is not one; at most one run may be open."""
    axes = []
    for text in pattern.split():
        found = _AXIS.fullmatch(text)
        if found is None:
            raise ValueError(f"'{text}' in '{pattern}' is not an axis")
        if found["size"]:
            axes.append(PatternAxis(text, int(found["size"])))
        else:
            run = found["run"] or ""
            axes.append(PatternAxis(found["name"], open=run in ("*", "+") and run != "", least=int(run == "+"), count=found["count"] or ""))
    if sum(a.open for a in axes) > 1:
        raise ValueError(f"'{pattern}' has more than one open run")
    return tuple(axes)


def match(pattern: str, shape: Shape, counts: Mapping[str, int | float | bool], found: Bindings) -> None:
    """Bind the names of `pattern` to the axes of `shape`, adding to `found`. Raises ShapeError.

    counts: values of immediates. A name that is bound already must have the same axes here.
    """
    axes = parse(pattern)
    lengths = [int(counts[a.count]) if a.count else 0 if a.open else 1 for a in axes]
    rest = len(shape) - sum(lengths)
    at = 0
    for axis, length in zip(axes, lengths, strict=True):
        length = rest if axis.open else length
        part = shape[at : at + length]
        at += length
        good = length >= axis.least and len(part) == length and (axis.size is None or part == (axis.size,))
        if not good or (axis.size is None and found.setdefault(axis.name, part) != part):
            raise ShapeError(f"shape {list(shape)} does not match [{pattern}]")
    if at != len(shape):
        raise ShapeError(f"shape {list(shape)} does not match [{pattern}]")


def size(axes: Shape) -> int:
    """Number of elements of bound axes."""
    return math.prod(axes)
