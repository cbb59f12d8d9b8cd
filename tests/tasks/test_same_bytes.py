"""The same inputs give the same bytes, wherever, however and by whomever they are compiled (real stages)."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tasks_support import Project, make_project

from axforge import Model


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


def test_model_json_is_published_with_its_labels_and_digests(project: Project) -> None:
    (project.root / "models" / "labels").mkdir()
    (project.root / "models" / "labels" / "animals.txt").write_text("ant\nbee\n\ncat\n")
    project.describe(labels="animals.txt")
    project.compile()
    published = json.loads((project.built / "model.json").read_text())
    digests = published.pop("published")
    assert digests["model.axmodel"] == hashlib.sha256((project.built / "model.axmodel").read_bytes()).hexdigest()
    assert published == json.loads(project.descriptor.read_text()) | {"labels": ["ant", "bee", "cat"]}
    (project.root / "models" / "labels" / "animals.txt").write_text("one\ntwo\n")
    assert project.compile().ran() == []
    assert Model(project.built).labels == ("one", "two")


def test_the_digests_follow_the_compiled_model(project: Project) -> None:
    assert "tiny: int8 ranges by " in project.compile().err
    before = Model(project.built).manifest
    project.describe(compile={"quantize": {"scheme": "minmax"}})
    assert "tiny: int8 ranges by minmax for " in project.compile().err
    assert Model(project.built).manifest != before


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
