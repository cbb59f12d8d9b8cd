"""What the wheel gives: the command without any extra, nothing written beside the package, and types for a project of a user's."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tasks_support import Project

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: In the place of an installation without extras: what the extras bring cannot be imported.
BLOCKER = """\
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""
MODULES = {"scikit-image": "skimage"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installed wheel that was built from this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder / "lib"), "."]
    copy = folder / "copy"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if files.returncode:
        pytest.skip("not a clone of the repository")
    for name in files.stdout.splitlines():
        if name.startswith(("tests/", "docs/", ".")) or not (ROOT / name).exists():
            continue
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            (copy / name).symlink_to((ROOT / name).readlink())
        else:
            (copy / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(build, cwd=copy, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the wheel cannot be built here: {done.stderr[-300:]}")
    return folder / "lib"


def axforge(installed: Path, folder: Path, *words: str, extras: bool) -> subprocess.CompletedProcess[str]:
    """The installed command in a folder. extras: whether what the extras bring can be imported."""
    blocked = {canonicalize_name(Requirement(r).name) for group in PYPROJECT["optional-dependencies"].values() for r in group} - {"axforge"}
    modules = {MODULES.get(name, name.replace("-", "_")) for name in blocked}
    (folder / "start").mkdir(exist_ok=True)
    (folder / "start" / "sitecustomize.py").write_text("" if extras else BLOCKER.format(modules=modules))
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AXFORGE_")}
    path = os.pathsep.join([str(folder / "start"), str(installed)])
    environment = kept | {"PYTHONPATH": path, "AXFORGE_CACHE_DIR": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(installed / "bin" / "axforge"), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_without_extras_a_compiled_folder_runs_and_all_else_names_the_extra(installed: Path, project: Project, tmp_path: Path) -> None:
    assert project.doit("compile:tiny").status == 0
    folder = tmp_path / "home"
    folder.mkdir()
    picture = str(project.pictures / "img_0.png")
    done = axforge(installed, folder, "run", str(project.built), picture, extras=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["class", "score"]
    for words in (("infer", "tiny", picture), ("compile", "tiny"), ("init", str(project.onnx)), ("list",)):
        refused = axforge(installed, folder, *words, extras=False)
        assert refused.returncode == 1
        assert "python -m pip install 'axforge[compile]'" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert ("axforge run FOLDER SOURCE" in refused.stderr) == (words[0] == "infer")


def test_nothing_is_written_into_the_installation(installed: Path, project: Project, tmp_path: Path) -> None:
    before = sorted(installed.rglob("*"))
    folder = tmp_path / "home"
    folder.mkdir()
    done = axforge(installed, folder, "infer", str(project.onnx), str(project.pictures / "img_0.png"), extras=True)
    assert done.returncode == 0, done.stderr
    assert sorted(installed.rglob("*")) == before
    assert (folder / "build").is_dir()


def test_mypy_sees_types_in_a_project_of_a_user(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text("from axforge import Model\n\nmodel = Model(3.5)\nreveal_type(model.name)\n")
    environment = {**os.environ, "MYPYPATH": str(installed), "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "use.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (installed / "axforge" / "py.typed").is_file()
    assert 'Revealed type is "str"' in done.stdout or 'Revealed type is "builtins.str"' in done.stdout, done.stdout
    assert "incompatible type" in done.stdout
