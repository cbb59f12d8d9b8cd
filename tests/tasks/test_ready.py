"""What is compiled runs alone: builds whose sources are away, and compiled models of the user's own."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tasks_support import Answer, Project, answer

from axforge.axruntime.deployed.bundle import write_bundle

ROOT = Path(__file__).resolve().parents[2]
PICTURE = "pictures/img_0.png"


@pytest.fixture
def built(compiled: Path, project: Project) -> Project:
    """A project with a copied folder of a compiled model: no stages, no memory of doit, an empty cache."""
    shutil.copytree(compiled, project.built)
    return project


def infer(project: Project, *more: str, model: str = "tiny", **environment: str) -> Answer:
    return project.doit(f"infer:{model}:{project.root / PICTURE}", *more, **environment)


def no_onnx(p: Project) -> str:
    p.onnx.unlink()
    return str(p.onnx)


def no_pictures(p: Project) -> str:
    shutil.rmtree(p.pictures)
    return str(p.pictures)


def no_descriptor(p: Project) -> str:
    shutil.rmtree(p.descriptor.parent)
    return "model.json"


@pytest.mark.parametrize("remove", [no_onnx, no_pictures, no_descriptor], ids=lambda f: f.__name__)
def test_a_full_folder_whose_sources_are_away_runs_and_says_which(built: Project, remove: Callable[[Project], str]) -> None:
    source = built.root / "photo.png"
    shutil.copy(built.root / PICTURE, source)
    away = remove(built)
    before = {path: path.read_bytes() for path in built.built.iterdir()}
    done = built.doit(f"infer:tiny:{source}")
    assert done.status == 0, done.out + done.err
    (line,) = [line for line in done.err.splitlines() if "not checked" in line]
    assert away in line
    assert "compile:" not in done.out
    assert {path: path.read_bytes() for path in built.built.iterdir()} == before


def test_without_a_data_root_too(built: Project) -> None:
    built.onnx.unlink()
    done = infer(built, AXFORGE_DATA_ROOT=str(built.root / "no such"))
    assert done.status == 0, done.out + done.err
    assert done.err.count("not checked") == 1


def test_what_is_known_to_be_stale_does_not_run(built: Project) -> None:
    built.onnx.unlink()
    built.describe(compile={"quantize": {"percentile": 99.0}})
    done = infer(built)
    assert done.status == 1
    assert str(built.onnx) in done.err


def test_a_new_threshold_takes_effect_without_the_sources(built: Project) -> None:
    built.onnx.unlink()
    built.describe(postprocessing=[{"type": "topk", "k": 1}])
    assert infer(built, "save=out").status == 0
    (frame,) = json.loads((built.root / "out" / "img_0.json").read_text())["frames"]
    assert len(frame["result"]["classes"]) == 1


def test_force_insists_on_a_compilation(built: Project) -> None:
    built.onnx.unlink()
    done = infer(built, "--force")
    assert done.status == 1
    assert str(built.onnx) in done.err


def test_a_folder_that_is_not_full_needs_the_source(built: Project) -> None:
    built.onnx.unlink()
    (built.built / "manifest.json").unlink()
    done = infer(built)
    assert done.status == 1
    assert "it is not there" in done.err


def test_with_the_sources_there_it_is_built(project: Project) -> None:
    project.compile()
    project.describe(compile={"quantize": {"scheme": "minmax"}})
    done = infer(project)
    assert done.status == 0, done.out + done.err
    assert "compile:tiny:pack: ran" in done.out
    assert "not checked" not in done.err


@pytest.mark.parametrize("kind", ["folder", "zip", "axmodel"])
def test_a_compiled_model_of_the_users_own_runs_by_its_path(built: Project, tmp_path: Path, kind: str) -> None:
    mine = tmp_path / "my models" / "seen"
    shutil.copytree(built.built, mine)
    if kind == "zip":
        write_bundle(mine, tmp_path / "seen.zip")
    path = {"folder": mine, "zip": tmp_path / "seen.zip", "axmodel": mine / "model.axmodel"}[kind]
    before = sorted(mine.iterdir())
    done = infer(built, "save=out", model=str(path))
    assert done.status == 0, done.out + done.err
    assert "compile:" not in done.out
    assert (built.root / "out" / "img_0.json").is_file()
    again = answer([sys.executable, str(ROOT / "inference.py"), str(path), str(built.root / PICTURE)], built.root, built.env())
    assert again.status == 0, again.out + again.err
    assert sorted(mine.iterdir()) == before


@pytest.mark.parametrize(
    "model, more, sentence",
    [
        ("no/such.axmodel", (), "there is no such file or folder"),
        ("tiny.onnx.zip", (), "there is no such file or folder"),
        ("build/tiny/tiny/1", ("--force",), "Omit --force"),
        ("build/tiny/tiny/1", ("--pipe", "onnx"), "compiled already"),
        ("pictures/", (), "there is no model.axmodel in it"),
        ("dodo.py/model.axmodel", (), "ERROR"),
    ],
)
def test_a_path_that_cannot_run_is_a_sentence(built: Project, model: str, more: tuple[str, ...], sentence: str) -> None:
    done = infer(built, *more, model=model)
    assert done.status == 1
    assert sentence in done.err
    assert "Traceback" not in done.err


def test_an_axmodel_without_a_pipeline_says_what_is_missing(built: Project) -> None:
    shutil.copy(built.built / "model.axmodel", built.root / "bare.axmodel")
    done = infer(built, model="bare.axmodel")
    assert done.status == 1
    assert "Put its model.json beside it" in done.err


def test_what_is_compiled_is_not_compiled(built: Project) -> None:
    done = built.doit("compile:build/tiny/tiny/1")
    assert done.status == 1
    assert "compiled already" in done.err
