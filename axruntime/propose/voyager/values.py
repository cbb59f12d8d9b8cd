"""Single values of a network's YAML, and the note of what became of each."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.step import Certainty
from axforge.axruntime.propose.proposal import Choice

#: A variable that the SDK fills in.
_VARIABLE = re.compile(r"\$\{\{\s*(\w+)\s*\}\}")


@dataclass
class Notes:
    """What was made of the parts of a file, in order. where: the file, for error messages."""

    where: str
    choices: list[Choice] = field(default_factory=list)

    def mapped(self, what: str, value: str, sure: Certainty = "certain", why: str = "As the file says.", check: str = "") -> None:
        """Note that a part of the file became `value`."""
        self.choices.append(Choice(what, value, sure, why, check))

    def lost(self, what: str, why: str, check: str = "") -> None:
        """Note that a part of the file could not be mapped."""
        self.choices.append(Choice(what, "not mapped", "guess", why, check))

    def error(self, what: str, fix: str = "") -> AxforgeError:
        """The error for a mistake in the file."""
        return AxforgeError(what, where=self.where, fix=fix)


class YamlOperator:
    """An operator of a pipeline with its parameters; what is not asked for is noted as not mapped."""

    def __init__(self, name: str, parameters: Mapping[str, object], variables: Mapping[str, object], notes: Notes) -> None:
        self.name, self.notes = name, notes
        self.key = re.sub(r"[-_]", "", name).lower()
        self._left = {key: _filled(value, variables) for key, value in parameters.items()}

    def take(self, *names: str) -> object:
        """The value of the first of these parameters that is given; None if none is. A variable that nobody fills counts as not given."""
        found = [self._left.pop(name, None) for name in names]
        return next((value for value in found if value is not None), None)

    def peek(self, name: str) -> object:
        """The value of a parameter, which may still be taken."""
        return self._left.get(name)

    def number(self, *names: str, default: float | None = None) -> float | None:
        """That parameter as a finite number. Raises AxforgeError."""
        if (value := self.take(*names)) is None:
            return default
        return self._number(value, names[0])

    def whole(self, *names: str) -> int | None:
        """That parameter as a whole number of at least 1; None where it is not given, or 0. Raises AxforgeError."""
        value = self.number(*names)
        if value is not None and (value != int(value) or value < 0 or value > 1 << 20):
            raise self._wrong(names[0], value, "a whole number")
        return int(value) if value else None

    def flag(self, name: str, *, default: bool = False) -> bool:
        """That parameter as yes or no. Raises AxforgeError."""
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return default if value is None else value

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """That parameter, a list or a text with commas, as numbers. Raises AxforgeError."""
        value = self.take(name)
        if value is None:
            return None
        parts = value if isinstance(value, list) else str(value).split(",")
        if not parts:
            raise self._wrong(name, value, "numbers")
        return tuple(self._number(part, name) for part in parts)

    def words(self, name: str) -> tuple[str, ...]:
        """That parameter, a list or a text with commas, as words; () where it is not given."""
        value = self.take(name)
        parts = value if isinstance(value, list) else str(value or "").split(",")
        return tuple(word for part in parts if (word := str(part).strip()))

    def rest(self) -> None:
        """Note the parameters that were not asked for."""
        for key, value in self._left.items():
            if value is not None:
                self.notes.lost(f"{self.name}.{key}", f"There is nothing like it here (it is {_short(value)}).")

    def _number(self, value: object, name: str) -> float:
        try:
            number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self._wrong(name, value, "a number")
        return number

    def _wrong(self, name: str, value: object, wanted: str) -> AxforgeError:
        return self.notes.error(f"{self.name}.{name} is {_short(value)}, and should be {wanted}.", "Correct the file.")


def operators(value: object, what: str, variables: Mapping[str, object], notes: Notes) -> Iterator[YamlOperator]:
    """The operators of a list such as `- letterbox: {width: 640}`. Raises AxforgeError for anything else."""
    if value is None:
        return
    if not isinstance(value, list):
        raise notes.error(f"{what} is not a list of operators.")
    for item in value:
        pair = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (item, None)
        name, parameters = pair
        if not isinstance(name, str) or not (parameters is None or isinstance(parameters, dict)):
            raise notes.error(f"{what}: {_short(item)} is not an operator with its parameters.")
        yield YamlOperator(name, {str(key): part for key, part in (parameters or {}).items()}, variables, notes)


def section(value: object, what: str, notes: Notes) -> dict[str, object]:
    """A part of the file that is a mapping; empty where it is not given. Raises AxforgeError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise notes.error(f"{what} is not a mapping.")
    return {str(key): part for key, part in value.items()}


def _filled(value: object, variables: Mapping[str, object]) -> object:
    found = _VARIABLE.fullmatch(value.strip()) if isinstance(value, str) else None
    return variables.get(found[1]) if found else value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
