"""Figures that the code keeps, so that a stranger can read it: short functions, short files, one meaning for a name, few `Any`."""

import ast
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("axcompiler", "axruntime", "ax_models", "cache", "tasks", "cli")
FILE_LINES = 400
FUNCTION_LINES = 60
MEDIAN_FUNCTION, TENTH_LONGEST = 8, 20
LINES_WITH_ANY = 200
#: Habits of speech that are not engineering English, with what to write instead.
WORDING = {
    r"\bparted\b": "split",
    r"\bmend(s|ed)?\b": "fix",
    r"\bsee there\b": "the name of what is meant",
    r"\bis no (tensor|node|ONNX|valid|input|output)\b": "is not a ...",
    r"\bhas not (a|an|the|enough|[0-9]+)\b": "does not have",
}


@cache
def sources() -> dict[Path, str]:
    """Text of every Python file of the product."""
    return {path: path.read_text(encoding="utf-8") for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method."""
    for path, text in sources().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    doc = node.body[0] if ast.get_docstring(node) is not None else None
    return (node.end_lineno or 0) - node.lineno + 1 - ((doc.end_lineno or 0) - doc.lineno + 1 if doc else 0)


def test_functions_are_short() -> None:
    found = [(lines(node), f"{path.relative_to(ROOT)}:{node.lineno} {node.name}") for path, node in functions()]
    sizes = sorted(size for size, _ in found)
    assert [where for size, where in found if size > FUNCTION_LINES] == []
    assert statistics.median(sizes) <= MEDIAN_FUNCTION
    assert sizes[len(sizes) * 9 // 10] <= TENTH_LONGEST


def test_files_are_short() -> None:
    assert [f"{path.relative_to(ROOT)}: {n}" for path, text in sources().items() if (n := len(text.splitlines())) > FILE_LINES] == []


def test_few_lines_say_any() -> None:
    found = {path: len(re.findall(r"^(?!from typing).*\bAny\b", text, re.MULTILINE)) for path, text in sources().items()}
    worst = sorted(((n, str(path.relative_to(ROOT))) for path, n in found.items()), reverse=True)[:15]
    assert sum(found.values()) < LINES_WITH_ANY, worst


def test_a_class_name_means_one_thing() -> None:
    where: dict[str, list[str]] = defaultdict(list)
    for path, text in sources().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert {name: places for name, places in where.items() if len(places) > 1} == {}


def test_everything_public_has_a_docstring() -> None:
    """A method that other classes have too is described once, where the seam is."""
    scopes = [(path, scope) for path, text in sources().items() for scope in ast.walk(ast.parse(text))]
    described = {
        node.name
        for _, scope in scopes
        if isinstance(scope, ast.ClassDef)
        for node in scope.body
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None
    }
    missing = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, scope in scopes
        if isinstance(scope, ast.Module | ast.ClassDef)
        for node in scope.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and ast.get_docstring(node) is None
        if not (isinstance(scope, ast.ClassDef) and (node.name in described or scope.name.startswith("_")))
    ]
    assert missing == []


@pytest.mark.parametrize("habit", WORDING)
def test_words_are_plain(habit: str) -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
    found = [
        f"{path.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1} {match[0]}"
        for path, text in {**sources(), **pages}.items()
        for match in re.finditer(habit, text)
    ]
    assert found == [], f"write: {WORDING[habit]}"
