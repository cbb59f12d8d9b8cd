"""docs/extending.md says how many files an addition takes, and names a commit that did it: the commits must agree."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \((\w)\) \| .* \| (\d+) \| ([0-9a-f]{7,}) \|$", PAGE, re.MULTILINE)
#: Files that do not count: tests, what a command prints, and the definition of the arithmetic, which the page names beside the four.
NOT_COUNTED = ("tests/", "docs/", "ax_models/model.schema.json", "axcompiler/numerics.py")


def git(*words: str) -> str | None:
    """What git prints; None where it fails."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def code(commit: str, name: str) -> str:
    """A module's code at a commit without comments and docstrings; '' where there is no such file."""
    tree = ast.parse(git("show", f"{commit}:{name}") or "")
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)


def touched(commit: str) -> list[str]:
    """Files of the product whose code a commit changes. Skips where the history is not there."""
    names = git("show", "--no-renames", "--name-only", "--format=", commit)
    if names is None:
        pytest.skip(f"commit {commit} is not in this copy of the history")
    counted = [name for name in names.split() if not name.startswith(NOT_COUNTED)]
    return [name for name in counted if not name.endswith(".py") or code(f"{commit}^", name) != code(commit, name)]


def test_every_kind_of_addition_has_a_row() -> None:
    assert [letter for letter, _, _ in ROWS] == list("abcdefghij")


@pytest.mark.parametrize(("letter", "most", "commit"), ROWS)
def test_the_example_touches_no_more_files_than_the_page_says(letter: str, most: str, commit: str) -> None:
    files = touched(commit)
    assert 0 < len(files) <= int(most), files


def test_folders_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"`((?:axcompiler|axruntime|cache|tests)/[\w/]*/)", PAGE))
    assert named
    assert sorted(name for name in named if not (ROOT / name).is_dir()) == []
