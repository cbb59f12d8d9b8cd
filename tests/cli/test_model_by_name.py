"""`axforge.Model("NAME")`: compiled on first use, up to date afterwards, and a sentence for a name that nobody knows."""

import os
import sys
from pathlib import Path

from tasks_support import Answer, Project, answer

CODE = "import axforge; model = axforge.Model('{name}'); print(model.name, len(model.inputs))"


def python(code: str, cwd: Path, cache: Path) -> Answer:
    """Run Python code in a folder, as a user's script would."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AXFORGE_", "DOIT_"))}
    return answer([sys.executable, "-c", code], cwd, kept | {"AXFORGE_CACHE_DIR": str(cache)})


def test_a_model_of_the_project_is_compiled_on_first_use(project: Project, tmp_path: Path) -> None:
    first = python(CODE.format(name="tiny"), project.root, tmp_path / "cache")
    assert first.status == 0, first.err
    assert first.out == "tiny 1\n"  # what the tasks say is on stderr
    assert "pack" in first.err
    assert (project.root / "build" / "tiny" / "tiny" / "1" / "model.axmodel").is_file()
    again = python(CODE.format(name="tiny"), project.root, tmp_path / "cache")
    assert (again.status, again.out) == (0, "tiny 1\n")
    assert "ran (" not in again.err


def test_an_unknown_name_is_a_sentence(project: Project, tmp_path: Path) -> None:
    code = "import axforge\ntry:\n    axforge.Model('tinny')\nexcept axforge.AxforgeError as e:\n    print(e)"
    said = python(code, project.root, tmp_path / "cache")
    assert said.status == 0, said.err
    assert "'tinny' is neither a file nor a model" in said.out
    assert "There is no model 'tinny'" in said.err
    assert not (project.root / "build" / "tinny").exists()
