"""Fields of operators that name constants of the graph, found by their type: `weight: Annotated[str, Constant("int8", 4)]`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True)
class Constant:
    """Marks a field that names a constant with this element type and this number of axes."""

    dtype: str
    rank: int


@cache
def _marked(struct: type[msgspec.Struct]) -> dict[str, Constant | None]:
    """Fields that name constants and what they must be; None for a field that is a structure with such fields itself."""
    hints = get_type_hints(struct, include_extras=True)
    found: dict[str, Constant | None] = {}
    for name in struct.__struct_fields__:
        marker = _marker(hints[name])
        if marker is not None:
            found[name] = marker
        elif isinstance(hints[name], type) and issubclass(hints[name], msgspec.Struct):
            found[name] = None
    return found


def _marker(hint: Any) -> Constant | None:
    """The marker anywhere inside an annotation, `tuple[Annotated[str, Constant(...)] | None, ...]` for one."""
    inside = (*getattr(hint, "__metadata__", ()), *get_args(hint))
    return next((m for part in inside if (m := part if isinstance(part, Constant) else _marker(part)) is not None), None)


def constants(struct: msgspec.Struct) -> Iterator[tuple[str, Constant]]:
    """(name of a constant, what it must be) for every constant that `struct` refers to."""
    for field, marker in _marked(type(struct)).items():
        value = getattr(struct, field)
        if marker is None:
            yield from constants(value)
        else:
            yield from ((name, marker) for name in (value if isinstance(value, tuple) else (value,)) if name is not None)


def renamed(struct: S, names: Mapping[str, str]) -> S:
    """`struct` with every constant it refers to under its name in `names`."""
    change: dict[str, Any] = {}
    for field, marker in _marked(type(struct)).items():
        value = getattr(struct, field)
        if marker is None:
            change[field] = renamed(value, names)
        elif isinstance(value, tuple):
            change[field] = tuple(None if name is None else names[name] for name in value)
        elif value is not None:
            change[field] = names[value]
    return msgspec.structs.replace(struct, **change) if change else struct
