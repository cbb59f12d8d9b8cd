"""The one rule for names that must be new: the wanted name, or the wanted name with the first number that makes it free."""

from collections.abc import Container, Iterable


def fresh(wanted: str, taken: Container[str], separator: str = "_") -> str:
    """`wanted` if it is not in `taken`, else `wanted_1`, `wanted_2`, ... with that separator."""
    name, n = wanted, 1
    while name in taken:
        name, n = f"{wanted}{separator}{n}", n + 1
    return name


class Names:
    """The names in use in one model or graph; each name that it gives is in use from then on."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def fresh(self, wanted: str) -> str:
        """A name that was not in use, made from `wanted`."""
        name = fresh(wanted, self._taken)
        self._taken.add(name)
        return name
