"""Verdicts on accuracy as JUnit XML, which CI services show."""

import os
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from axforge.axcompiler.errors import AxforgeError
from axforge.cache.disk import unique_name, written
from axforge.cache.lock import held

_SUITE = "axforge.accuracy"


@dataclass(frozen=True)
class Case:
    """The measurement of a model on an engine (`pipe`). sentence: the verdict, or why there is none."""

    model: str
    pipe: str
    outcome: Literal["passed", "failure", "error", "skipped"] = "passed"
    sentence: str = ""
    seconds: float = 0.0

    def element(self) -> ET.Element:
        """As a `testcase` of JUnit."""
        found = ET.Element("testcase", classname=f"{_SUITE}.{self.model}", name=self.pipe, time=f"{self.seconds:.3f}")
        if self.outcome == "passed":
            ET.SubElement(found, "system-out").text = _printable(self.sentence)
        else:
            ET.SubElement(found, self.outcome, message=_printable(self.sentence))
        return found


def record(path: Path, case: Case, lock: Path) -> None:
    """Write a case into the file, which keeps those of other models and engines. Raises AxforgeError.

    The tasks of several models may write at the same time; `lock` is a file that keeps them apart.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with held(lock):
            mine = (f"{_SUITE}.{case.model}", case.pipe)
            cases = [old for old in _cases(path) if (old.get("classname"), old.get("name")) != mine]
            text = ET.tostring(_document([*cases, case.element()]), encoding="utf-8", xml_declaration=True)
            with written(path, path.with_name(f".{path.name}.{unique_name()}"), durable=False, mode=0o644) as beside:
                beside.write_bytes(text)
    except OSError as e:
        raise AxforgeError(f"The JUnit file cannot be written: {os.strerror(e.errno or 0)}.", where=str(path)) from e


def _cases(path: Path) -> list[ET.Element]:
    """What the file holds. Raises AxforgeError for a file that something else wrote."""
    if not path.exists():
        return []
    try:
        root = ET.parse(path).getroot()
    except (ET.ParseError, UnicodeDecodeError):
        root = ET.Element("unreadable")
    if root.tag != "testsuites" or root.get("name") != _SUITE:
        fix = "Give --junit the name of another file."
        raise AxforgeError("The file is there already, and holds no verdicts of axforge.", where=str(path), fix=fix)
    return [case for suite in root for case in suite]


def _document(cases: list[ET.Element]) -> ET.Element:
    root = ET.Element("testsuites", name=_SUITE)
    counts = {
        f"{kind}{'' if kind == 'skipped' else 's'}": sum(c.find(kind) is not None for c in cases)
        for kind in ("failure", "error", "skipped")
    }
    suite = ET.SubElement(root, "testsuite", {"name": _SUITE, "tests": str(len(cases)), **{k: str(n) for k, n in counts.items()}})
    suite.extend(sorted(cases, key=lambda case: (case.get("classname", ""), case.get("name", ""))))
    ET.indent(root)
    return root


def _printable(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c for c in text if c in "\n\t" or c >= " ")
