"""In whose folder `axforge` works, and that it writes nowhere else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tasks_support import Answer, Project

from axforge.axcompiler.errors import AxforgeError
from axforge.tasks.project.project_file import find_project, read_project

Axforge = Callable[..., Answer]


@pytest.mark.parametrize(
    "file, text",
    [
        ("axforge.toml", ""),
        ("pyproject.toml", "[tool.axforge]\n"),
        ("pyproject.toml", "[tool.axforge.cache]\nlink = true\n"),
        ("dodo.py", "from axforge.tasks import task_compile\n"),
        ("dodo.py", "from axforge import tasks\n"),
        ("dodo.py", "import axforge.tasks.project.settings\n"),
    ],
)
def test_a_project_is_the_nearest_folder_that_says_so(tmp_path: Path, file: str, text: str) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "a" / file).write_text(text)
    assert find_project(below) == tmp_path / "a"


@pytest.mark.parametrize(
    "file, text",
    [
        ("pyproject.toml", "[tool.other]\n# tool.axforge\n"),
        ("pyproject.toml", "this is not TOML: tool.axforge"),
        ("dodo.py", "# axforge.tasks would be nice\nraise SystemExit(3)\n"),
        ("dodo.py", "from other import tasks\n"),
    ],
)
def test_other_files_make_no_project(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / file).write_text(text)
    assert find_project(tmp_path / "a") == tmp_path / "a"


def test_the_file_of_a_project_is_checked(tmp_path: Path) -> None:
    (tmp_path / "axforge.toml").write_text('modles = ["x"]\n')
    with pytest.raises(AxforgeError, match="Did you mean 'models'"):
        read_project(tmp_path)
    (tmp_path / "axforge.toml").write_text('models = "x"\n')
    with pytest.raises(AxforgeError, match="a list of folders"):
        read_project(tmp_path)


def test_the_dodo_of_a_project_is_used_from_any_folder_below(axforge: Axforge, project: Project) -> None:
    project.fake_stages("from pathlib import Path\nPath('dodo-was-run').touch()\n")
    (project.root / "models").rename(project.root / "elsewhere")
    (project.root / "dodo.py").write_text((project.root / "dodo.py").read_text().replace('models_in("models")', 'models_in("elsewhere")'))
    below = project.root / "pictures"
    done = axforge("compile", "tiny", cwd=below)
    assert done.status == 0, done.err
    assert (project.root / "dodo-was-run").is_file()
    assert project.built.is_dir()
    assert not (below / "build").exists()
    assert "tiny" in [model["name"] for model in json.loads(axforge("list", "--json", cwd=below).out)]


def test_axforge_toml_says_where_things_are(axforge: Axforge, project: Project) -> None:
    (project.root / "dodo.py").unlink()
    (project.root / "models").rename(project.root / "mine")
    (project.root / "axforge.toml").write_text('models = ["mine"]\nbuild_root = "out"\n')
    done = axforge("compile", "tiny:fetch", cwd=project.root / "pictures")
    assert done.status == 0, done.err
    assert (project.root / "out" / "tiny").is_dir()
    assert not (project.root / "build").exists()


def test_a_folder_models_needs_no_file(axforge: Axforge, project: Project) -> None:
    (project.root / "dodo.py").unlink()
    (table,) = [model for model in json.loads(axforge("list", "--json", cwd=project.root).out) if model["name"] == "tiny"]
    assert table["ready"]
    assert table["own"]
    assert axforge("compile", "tiny", cwd=project.root).status == 0
    (table,) = [model for model in json.loads(axforge("list", "--json", cwd=project.root).out) if model["name"] == "tiny"]
    assert table["compiled"] == [1]
    assert "bytes" in axforge("info", "tiny", cwd=project.root).out


def test_an_onnx_is_run_on_the_fly(axforge: Axforge, project: Project, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = axforge("infer", str(project.onnx), str(project.pictures / "img_0.png"), cwd=home)
    assert done.status == 0, done.out + done.err
    assert "assumed" in done.err
    assert "axforge init" in done.err
    assert [path.name for path in home.iterdir()] == ["build"]
    assert (home / "build" / "proposed" / "tiny" / "model.json").is_file()


def test_init_writes_a_model_that_the_next_command_finds(axforge: Axforge, project: Project, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "my.onnx").write_bytes(project.onnx.read_bytes())
    done = axforge("init", "my.onnx", cwd=home)
    assert done.status == 0, done.err
    assert "Written: models/my/model.json" in done.out
    assert "Next: axforge infer my PICTURE.jpg" in done.out
    assert json.loads((home / "models" / "my" / "model.json").read_text())["source"] == {"file": "my.onnx"}
    assert axforge("infer", "my", str(project.pictures / "img_0.png"), cwd=home).status == 0
    again = axforge("init", "my.onnx", cwd=home)
    assert again.status == 1
    assert "--force" in again.err
