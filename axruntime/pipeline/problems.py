"""Turns the validation errors of msgspec into sentences that name the place in the file and the nearest known name."""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import UnsetType

from axforge.axcompiler.errors import AxforgeError

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<place>.*?)`)?$", re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"unknown field `(.*)`$")
_TAG = re.compile(r"^Invalid value (?P<value>.*)$")
_ENUM = re.compile(r"^Invalid enum value '(.*)'$")
_MISSING = re.compile(r"missing required field `(.*)`$")


def suggest(name: str, known: Iterable[str], kind: str) -> str:
    """A sentence with the nearest known names, or with all of them when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.55)
    near += [known for known in names if len(name) > 1 and name.lower() in known.lower() and known not in near][:3]
    if near:
        return f"Did you mean {' or '.join(repr(n) for n in near)}?"
    if not names:
        return f"No {kind} is known there."
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"Known {kind}s: {shown}."


def explain(error: msgspec.ValidationError, data: bytes, root: type[msgspec.Struct], where: str) -> AxforgeError:
    """The error a user reads, for `error` that decoding `data` as `root` gave."""
    match = _PLACE.match(str(error))
    assert match is not None
    what, place = match["what"], match["place"] or ""
    if field := _UNKNOWN_FIELD.search(what):
        here = f"{place}.{field[1]}".lstrip(".")
        return AxforgeError(
            f"there is no key '{field[1]}'", where=f"{where}: {here}", fix=suggest(field[1], _fields(root, data, place), "key")
        )
    if (tag := _TAG.match(what)) and place.endswith(".type") and (steps := _steps(root, place)):
        name = tag["value"].strip("'")
        return AxforgeError(f"there is no step '{name}'", where=f"{where}: {place}", fix=suggest(name, steps, "step"))
    if (enum := _ENUM.match(what)) and (choices := _choices(root, place)):
        return AxforgeError(f"'{enum[1]}' is not one of its values", where=f"{where}: {place}", fix=suggest(enum[1], choices, "value"))
    if missing := _MISSING.search(what):
        return AxforgeError(f"the key '{missing[1]}' is missing", where=f"{where}: {place}" if place else where, fix="Add it.")
    value = _at(msgspec.json.decode(data), place)
    shown = msgspec.json.encode(value).decode()
    fix = f"It says {shown}." if len(shown) <= 100 else ""
    return AxforgeError(what[:1].lower() + what[1:], where=f"{where}: {place}" if place else where, fix=fix)


def _segments(place: str) -> list[str | int]:
    return [int(s[1:-1]) if s.startswith("[") else s for s in re.findall(r"\[\d+\]|[^.\[\]]+", place)]


def _at(document: Any, place: str) -> Any:
    """The value at `place`, or as far towards it as the document goes ('[...]' means any entry of an object)."""
    for segment in _segments(place):
        try:
            document = document[segment]
        except (KeyError, IndexError, TypeError):
            return document
    return document


def _structs(kind: object) -> Iterator[type[msgspec.Struct]]:
    """All structs that a type annotation mentions."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    elif kind is not UnsetType:
        for part in get_args(kind):
            yield from _structs(part)


def _candidates(root: type[msgspec.Struct], place: str) -> list[type[msgspec.Struct]]:
    """The structs that are possible at `place`."""
    found = [root]
    for segment in _segments(place):
        if isinstance(segment, str):
            fields = [f for struct in found for f in msgspec.structs.fields(struct) if f.encode_name == segment]
            found = [struct for field in fields for struct in _structs(field.type)]
    return found


def _choices(root: type[msgspec.Struct], place: str) -> list[str]:
    """The values that are possible at `place`, where its type lists them."""
    outer, _, key = place.rpartition(".")
    types = [field.type for s in _candidates(root, outer) for field in msgspec.structs.fields(s) if field.encode_name == key]
    return sorted({str(v) for t in types for part in (t, *get_args(t)) if get_origin(part) is Literal for v in get_args(part)})


def _tag(struct: type[msgspec.Struct]) -> str | None:
    tag = struct.__struct_config__.tag
    return tag if isinstance(tag, str) else None


def _fields(root: type[msgspec.Struct], data: bytes, place: str) -> list[str]:
    """Names of the keys that are possible in the object at `place`."""
    value = _at(msgspec.json.decode(data), place)
    tag = value.get("type") if isinstance(value, dict) else None
    structs = _candidates(root, place)
    chosen = [s for s in structs if _tag(s) == tag] if tag is not None else []
    return sorted({f.encode_name for s in chosen or structs for f in msgspec.structs.fields(s)})


def _steps(root: type[msgspec.Struct], place: str) -> list[str]:
    """Names of the steps that are possible at `place`, which ends in '.type'."""
    return sorted(tag for s in _candidates(root, place.removesuffix(".type")) if (tag := _tag(s)) is not None)
