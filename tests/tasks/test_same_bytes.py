"""The same inputs give the same bytes, wherever, however and by whomever they are compiled (real stages)."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tasks_support import Project, make_project


def artefacts(project: Project) -> dict[str, str]:
    """SHA-256 of everything published, by path below the model's folder."""
    root = project.built.parent
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


def test_hash_seed_locale_folder_and_workers_change_no_byte(project: Project, tmp_path: Path) -> None:
    project.compile(PYTHONHASHSEED="1")
    other = make_project(tmp_path / "some" / "other place", tmp_path / "another cache")
    done = other.doit("-n", "2", "compile:tiny", PYTHONHASHSEED="2", LC_ALL="tr_TR.UTF-8", TZ="Pacific/Auckland")
    assert done.status == 0, done.out + done.err
    assert artefacts(other) == artefacts(project)


def test_another_folder_with_the_same_inputs_restores(project: Project, make: Callable[[str], Project]) -> None:
    project.compile()
    other = make("elsewhere")
    assert set(other.compile().stages().values()) == {"restored"}
    assert artefacts(other) == artefacts(project)


def test_artefacts_name_no_path_of_this_machine(project: Project) -> None:
    project.compile()
    for path in project.built.parent.rglob("*"):
        if path.is_file() and path.name != "model.json":
            assert str(project.root).encode() not in path.read_bytes(), path


def test_model_json_is_published_as_it_is(project: Project) -> None:
    project.compile()
    assert (project.built / "model.json").read_bytes() == project.descriptor.read_bytes()
    assert json.loads((project.built / "manifest.json").read_text())["input_shapes"]


def test_the_version_of_axforge_is_part_of_the_key(project: Project) -> None:
    project.compile()
    dodo = project.root / "dodo.py"
    dodo.write_text("from axforge import axcompiler\naxcompiler.__version__ = '99'\n" + dodo.read_text())
    assert len(project.compile().ran()) == 7


@pytest.mark.parametrize(
    "library, stages", [("pillow", ["calibrate"]), ("numpy", ["fetch", "check", "calibrate", "quantize", "optimize", "tile", "pack"])]
)
def test_versions_of_libraries_are_part_of_the_keys_they_decide(project: Project, library: str, stages: list[str]) -> None:
    project.describe(source={"builder": "axforge.ax_models.builders.efficientnet_lite0:build"})
    project.fake_stages()
    project.compile()
    upgrade = "import importlib.metadata as m\nold = m.version\n"
    upgrade += f"m.version = lambda name: '99' if name == {library!r} else old(name)\n"
    dodo = project.root / "dodo.py"
    dodo.write_text(upgrade + dodo.read_text())
    assert project.compile().ran() == stages
