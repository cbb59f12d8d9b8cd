"""The packages of `tasks` import one way: each only from those below it, also inside functions and for type checking."""

import ast
from pathlib import Path

import pytest

from axforge import tasks

ROOT = Path(tasks.__file__).parent
#: From the top to the bottom; "" are the modules of `tasks` itself.
LAYERS = ("", "cluster", "stages", "screen", "project")


def layer(name: str) -> str:
    """The layer of a module below `axforge.tasks`, or of a name in it."""
    head = name.removeprefix("axforge.tasks").strip(".").split(".")[0]
    return head if head in LAYERS else ""


def arrows(folder: Path) -> set[tuple[str, str, str]]:
    """(file, module, name) of each import of another module of tasks."""
    found = set()
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("axforge.tasks"):
                found |= {(file.name, node.module or "", alias.name) for alias in node.names}
    return found


def test_every_folder_is_a_layer() -> None:
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(LAYERS) - {""}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_imports_only_what_is_below(name: str) -> None:
    allowed = LAYERS[LAYERS.index(name) :]
    found = arrows(ROOT / name)
    assert found
    assert [arrow for arrow in found if layer(f"{arrow[1]}.{arrow[2]}") not in allowed] == []
