"""The text files with the names of classes that model.json refers to: where they are looked for, and how they are read. Light to import."""

from collections.abc import Sequence
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError

#: What a name does not begin or end with. Other white space may be a name: an alphabet has the ideographic space.
_BLANKS = " \t\ufeff"


def folders_of(descriptor: Path, roots: Sequence[Path]) -> list[Path]:
    """Where the label file of the model.json at `descriptor` may be: beside it, in `labels` beside its folder, or in `roots`."""
    return [descriptor.parent, descriptor.parent.parent / "labels", *roots]


def find(name: str, folders: Sequence[Path]) -> Path | None:
    """The label file `name` in the first folder that has it."""
    return next((file for folder in folders if (file := folder / name).is_file()), None)


def read(name: str, folders: Sequence[Path], where: str) -> tuple[str, ...]:
    """The names in the label file `name`. Raises AxforgeError when no folder has it; where: the model.json that names it."""
    file = find(name, folders)
    if file is None:
        raise AxforgeError(f"there is no label file '{name}'", where=f"{where}: labels", fix=f"Put it into {folders[0]}.")
    try:
        data = file.read_bytes()
    except OSError as e:
        raise AxforgeError(f"the labels cannot be read: {e.strerror}", where=str(file)) from e
    return parse(data, str(file))


def parse(data: bytes, where: str) -> tuple[str, ...]:
    """The names in a label file, one on each line; empty lines do not count. Raises AxforgeError."""
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError as e:
        raise AxforgeError(f"the labels cannot be read: {e}", where=where, fix="Write them as UTF-8, one name on each line.") from None
    names = (line.strip(_BLANKS) for line in lines)
    return tuple(name for name in names if name)
