"""The one exception type for mistakes that a user can fix.

Front ends print `str(error)` and exit with status 1; anything else that escapes is a bug and shows its traceback.
"""


class AxforgeError(Exception):
    """A user-facing error.

    what: what is wrong, as a full sentence.
    where: the file, node or key it is about ('' when there is none).
    fix: what to do about it, as a full sentence ('' when nothing can be done).
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.fix}" if self.fix else head


class CompileError(AxforgeError):
    """The model cannot be compiled as it is."""


class FormatError(AxforgeError):
    """A file is damaged, of another format, or of another version."""
