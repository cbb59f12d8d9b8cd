"""Every shell block of README and docs, line by line as a reader would type it, in a folder with a model and a picture of theirs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tasks_support import make_project

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SHELL = ("sh", "console", "bash", "shell")
#: Blocks that do not run here, by page and first line, and why.
ELSEWHERE = {
    ("models.md", "axforge compile resnet18-imagenet-onnx"): "downloads weights; tests/tasks/test_zoo.py compiles a network of the table",
    (
        "models.md",
        "axforge zoo fetch resnet18-imagenet-onnx                           # as the stage fetch does: "
        "doit compile:resnet18-imagenet-onnx:fetch",
    ): "downloads weights; tests/cli/test_command_zoo.py imports a YAML",
    (
        "README.md",
        "python -m pip install -e '.[compile]' && doit infer:efficientnet_lite0-imagenet:sample:grace_hopper",
    ): "installs packages",
    ("first-inference.md", "python -m pip install '.[compile]'"): "installs packages, from a clone",
    ("README.md", "python -m pip install -e '.[test]' && python -m pytest -n 2"): ".ci/run types it word for word",
    ("serving.md", "axforge serve my.onnx"): "runs until it is stopped; tests/test_python_pages.py serves a bundle",
    ("deploy.md", "axmodel bundle build/yolox_nano/yolox_nano/1 -o yolox_nano.zip"): "tests/test_deploy_page.py runs it",
    ("deploy.md", "axmodel run yolox_nano.zip street.jpg --save-output seen.png"): "tests/test_deploy_page.py runs it",
    (
        "extending.md",
        "python -m axforge.axcompiler.isa                                 # the table in docs/aipu.md",
    ): "writes into this repository; the tests of the generated files compare them with what these commands write",
    (
        "doit.md",
        "export AXFORGE_CACHE_REMOTE=https://cache.example.org/axforge AXFORGE_CACHE_MODE=rw     # on every machine; or one "
        "AXFORGE_CACHE_DIR on a share",
    ): "needs several machines; tests/tasks/test_cluster.py does the same on one",
}


def blocks() -> list[tuple[str, str]]:
    """(page, text) of every shell block."""
    found = []
    for page in PAGES:
        for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            if language in SHELL:
                found.append((page.name, text))
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with my.onnx, not yet compiled, and picture.jpg; `axforge`, `axmodel` and `doit` are commands."""
    project = make_project(tmp_path / "other", tmp_path / "cache")
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "my.onnx").write_bytes(project.onnx.read_bytes())
    (folder / "picture.jpg").write_bytes((project.pictures / "img_0.png").read_bytes())
    (tmp_path / "bin").mkdir()
    for name, module in (("axforge", "axforge.cli.main"), ("axmodel", "axforge.axruntime"), ("doit", "doit")):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    return folder


def environment(home: Path) -> dict[str, str]:
    """The environment of a reader who has set nothing."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AXFORGE_", "DOIT_"))}
    return kept | {"PATH": f"{home.parent / 'bin'}{os.pathsep}{kept['PATH']}", "AXFORGE_CACHE_DIR": str(home.parent / "cache")}


#: Page -> its shell blocks that run here, in the order of the page: a block goes on where the one before it has stopped.
RUN: dict[str, list[str]] = {}
for _page, _text in blocks():
    if (_page, _text.splitlines()[0]) not in ELSEWHERE:
        RUN.setdefault(_page, []).append(_text)
#: Pages for a reader who has done nothing yet; before the others one has compiled a model.
FROM_NOTHING = {"README.md", "first-inference.md", "your-own-model.md"}
BEFORE = "test -e models/my || axforge init my.onnx; axforge compile my"


@pytest.mark.parametrize("page", list(RUN))
def test_the_blocks_of_a_page_work_one_after_the_other(home: Path, page: str) -> None:
    if page not in FROM_NOTHING:
        typed(home, BEFORE)
    for text in RUN[page]:
        typed(home, re.sub(r"^axforge init my.onnx$", "axforge init my.onnx --force", text, flags=re.MULTILINE))  # done before, or above


def typed(home: Path, text: str) -> None:
    """Run a block as a reader types it; it must succeed and say something."""
    done = subprocess.run(
        ["bash", "-e", "-c", text], cwd=home, env=environment(home), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, text + done.stdout + done.stderr
    assert done.stdout, text


def test_the_table_of_blocks_that_run_elsewhere_is_not_out_of_date() -> None:
    assert set(ELSEWHERE) <= {(page, text.splitlines()[0]) for page, text in blocks()}
