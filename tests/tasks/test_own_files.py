"""What is the user's stays the user's: a compiled model that model.json names, and edits of published files."""

import json
import shutil
from pathlib import Path

import pytest
from tasks_support import Project

PICTURE = "pictures/img_0.png"


@pytest.mark.parametrize("place", ["build/tiny/custom/1/model.axmodel", "models/tiny/mine.axmodel", "elsewhere/mine.axmodel"])
def test_a_model_of_ones_own_runs_and_is_never_written_to(project: Project, compiled: Path, place: str) -> None:
    path = project.root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(compiled / "model.axmodel", path)
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    named = {"build": "custom/1/model.axmodel", "models": "mine.axmodel", "elsewhere": str(path)}[place.partition("/")[0]]
    project.describe(model=named, source=None)
    ran = project.doit(f"infer:tiny:{PICTURE}", "--save-output", "out")
    assert ran.status == 0, ran.out + ran.err
    assert "nothing is compiled" in ran.out
    assert (project.root / "out" / "img_0.json").is_file()
    made = project.doit("compile:tiny", "--force")
    assert made.status == 0, made.out + made.err
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, stamp)
    assert not (project.root / "build" / "tiny" / "tiny" / "1").exists()


def test_a_model_of_ones_own_that_is_damaged_or_not_there_is_refused(project: Project, compiled: Path) -> None:
    project.describe(model="custom/1/model.axmodel")
    gone = project.doit("compile:tiny")
    assert gone.status == 1
    assert "custom/1/model.axmodel, which `model` names" in gone.err
    path = project.root / "build" / "tiny" / "custom" / "1" / "model.axmodel"
    path.parent.mkdir(parents=True)
    path.write_bytes((compiled / "model.axmodel").read_bytes()[:-100])
    for command in ("compile:tiny", f"infer:tiny:{PICTURE}"):
        damaged = project.doit(command)
        assert damaged.status == 1, damaged.out + damaged.err
        assert "Traceback" not in damaged.err
    stage = project.doit("compile:tiny:quantize")
    assert stage.status == 1
    assert "There is no stage quantize: `model` names a compiled model." in stage.err


def test_a_model_of_ones_own_can_still_be_compared_with_its_onnx(project: Project, compiled: Path) -> None:
    shutil.copy(compiled / "model.axmodel", project.root / "models" / "tiny" / "mine.axmodel")
    project.describe(model="mine.axmodel")
    done = project.doit(f"infer:tiny:{PICTURE}", "--pipe", "onnx", "--save-output", "out")
    assert done.status == 0, done.out + done.err
    assert "compile:tiny:quantize" not in done.out


@pytest.mark.parametrize("name", ["model.json", "manifest.json", "model.axmodel"])
def test_an_edit_of_a_published_file_is_set_aside_and_reported(quick: Project, name: str) -> None:
    quick.compile()
    path = quick.built / name
    before = path.read_bytes()
    for turn, kept in enumerate((f"{name}.edited", f"{name}.edited.2")):
        path.unlink()
        edit = json.dumps({**json.loads(before), "turn": turn}).encode() if name == "model.json" else b"edit %d" % turn
        path.write_bytes(edit)
        done = quick.doit("compile:tiny")
        assert done.status == 0, done.out + done.err
        assert path.read_bytes() == before
        assert (quick.built / kept).read_bytes() == edit
        assert kept in done.out + done.err
        assert str(quick.descriptor) in done.out + done.err
    assert "edited" not in (quiet := quick.doit("compile:tiny")).out + quiet.err


def test_a_model_json_without_its_seal_is_an_edit_too(quick: Project) -> None:
    quick.compile()
    path = quick.built / "model.json"
    document = json.loads(path.read_text())
    del document["published"]
    path.chmod(0o644)
    path.write_text(json.dumps(document))
    assert "model.json.edited" in (done := quick.doit("compile:tiny")).out + done.err


def test_published_files_are_read_only_and_are_replaced_all_the_same(quick: Project) -> None:
    quick.compile()
    assert {path.stat().st_mode & 0o777 for path in quick.built.iterdir()} == {0o444}
    quick.describe(description="another")
    done = quick.doit("compile:tiny")
    assert done.status == 0, done.out + done.err
    assert json.loads((quick.built / "model.json").read_text())["description"] == "another"
    assert not list(quick.built.glob("*.edited*"))


def test_a_build_after_a_change_of_sources_sets_nothing_aside(quick: Project) -> None:
    quick.compile()
    quick.describe(compile={"quantize": {"percentile": 99.9}})
    assert quick.compile().ran() == ["quantize", "optimize", "tile", "pack"]
    assert not list(quick.built.glob("*.edited*"))
