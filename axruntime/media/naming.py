"""What the files of a run are called, so that no run overwrites what another one, or the user, has written."""

import json
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError

#: Keys of a JSON of results that say which run it is of: a run with equal ones replaces it.
IDENTITY = ("model", "pipe", "source", "origin")
#: Characters of a JSON of results in which its header is.
_HEADER = 20_000


def header_of(path: Path) -> dict[str, str]:
    """What a JSON of results says of its run; {} when there is none or it is something else. Reads only the beginning."""
    try:
        with path.open(encoding="utf-8") as file:
            head, found, _ = file.read(_HEADER).partition('\n  "frames": [')
        document = json.loads(head.rstrip(",") + "}") if found else {}
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in document.items()} if isinstance(document, dict) else {}


def free_stem(folder: Path, stem: str, suffix: str, header: Mapping[str, str]) -> str:
    """`stem`, or another name when files of that name in `folder` are not of an earlier run of the same model on the same source.

    The name gets the engine or the model behind it if that is what differs, else a number.
    """
    for name in _candidates(stem, header_of(folder / f"{stem}.json"), header):
        document = folder / f"{name}.json"
        files = (document, folder / f"{name}{suffix}", folder / name)
        if _same(header_of(document), header) or not any(file.exists() for file in files):
            return name
    raise AssertionError("numbers do not end")


def document_beside(path: Path, header: Mapping[str, str]) -> Path:
    """The JSON for a file that the user named: beside it, and never in the place of a JSON that does not belong to that file."""
    for number in count(1):
        beside = path.with_name(f"{path.stem}{'' if number == 1 else f'-{number}'}.json")
        kept = header_of(beside)
        if not beside.exists() or _same(kept, header) or (kept and path.exists() and number == 1):
            return beside
    raise AssertionError("numbers do not end")


def refuse_source(path: Path, origin: Path, *, many: bool) -> None:
    """Raises AxforgeError when results at `path` would overwrite the source. many: they are pictures in a folder called as `path`."""
    if not many:
        if path.exists() and origin.exists() and path.samefile(origin):
            raise AxforgeError("this is the source itself", where=str(path), fix="Name another file after --save-output.")
        return
    target, inside = path.with_suffix(""), origin if origin.is_dir() else origin.parent
    if target.is_dir() and inside.is_dir() and target.samefile(inside):
        raise AxforgeError("the pictures of the source are in this folder", where=str(target), fix="Name another one after --save-output.")


def _candidates(stem: str, kept: Mapping[str, str], header: Mapping[str, str]) -> Iterator[str]:
    yield stem
    differs = [key for key in IDENTITY if key in kept and kept[key] != header.get(key)]
    if differs and set(differs) <= {"model", "pipe"}:
        yield f"{stem}-{'-'.join(header[key] for key in differs if key in header)}"
    yield from (f"{stem}-{number}" for number in count(2))


def _same(kept: Mapping[str, str], header: Mapping[str, str]) -> bool:
    return bool(kept) and all(kept.get(key) == header.get(key) for key in IDENTITY)
