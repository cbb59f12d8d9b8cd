"""What is remembered of the sources between two processes. The first line of a file suffices when nothing changed.

    <crc32> {"form", "root", "stamps": {file: stamps}, "digests": {entries: sha256}}
    <crc32> {file: [sha256, [files that it makes run]]}

A file that is absent, damaged, of another form or of another installation is nothing: the sources are read.
"""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from axforge.tasks.project.doit_state import Signature

_FORM = 2


class Module(NamedTuple):
    """One source file, or a folder that modules are looked for in (`…/`), as it was when a process first looked.

    imports: files that it makes run, as paths like its own. sure: any later change must show in the stamps.
    """

    stamps: Signature
    sha256: str
    imports: tuple[str, ...]
    sure: bool = True


class KnownSources(NamedTuple):
    """What was remembered. stamps: by file. digests: by entry modules. second_line: the modules, parsed only when one is asked for."""

    stamps: Mapping[str, Signature]
    digests: Mapping[str, str]
    second_line: bytes

    def modules(self) -> dict[str, Module]:
        """The modules by file; none if the second line is damaged."""
        try:
            found = _parsed(self.second_line)
            return {file: Module(self.stamps[file], str(sha256), tuple(imports)) for file, (sha256, imports) in found.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}


def recall(file: Path, root: Path) -> KnownSources | None:
    """What a file says of the sources below `root`; None if it says nothing that can be used."""
    try:
        first, _, second = file.read_bytes().partition(b"\n")
        head = _parsed(first)
        if (head["form"], head["root"]) == (_FORM, str(root)):
            return KnownSources(head["stamps"], head["digests"], second)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent or damaged
    return None


def remember(file: Path, root: Path, modules: Mapping[str, Module], digests: Mapping[str, str]) -> None:
    """Write what is known, without modules whose stamps may not show a further change, and then without digests. Never raises OSError."""
    sure = {name: module for name, module in modules.items() if module.sure}
    stamps = {name: module.stamps for name, module in sure.items()}
    head = {"form": _FORM, "root": str(root), "stamps": stamps, "digests": digests if len(sure) == len(modules) else {}}
    lines = [_line(head), _line({name: [module.sha256, module.imports] for name, module in sure.items()})]
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        beside.write_bytes(b"\n".join(lines))
        beside.replace(file)
    except OSError:
        beside.unlink(missing_ok=True)  # found out again next time


def _line(value: object) -> bytes:
    text = json.dumps(value).encode()
    return b"%08x %s" % (zlib.crc32(text), text)


def _parsed(line: bytes) -> Any:
    """The value of a line. Raises ValueError if it is damaged."""
    check, _, text = line.partition(b" ")
    if int(check, 16) != zlib.crc32(text):
        raise ValueError
    return json.loads(text)
