"""How a broken rule of a program is reported."""


class ProgramError(Exception):
    """A rule is broken; the message says which."""


def require(ok: object, what: str) -> None:
    """Raise ProgramError(what) unless `ok`."""
    if not ok:
        raise ProgramError(what)
