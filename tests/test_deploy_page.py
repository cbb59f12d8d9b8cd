"""Every block of docs/deploy.md, run in the order of the page, with a tiny detector in the place of YOLOX."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from deployed_models import DETECTOR, detector, photo, publish
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader has it: a compiled model and a photo; `axmodel` is a command."""
    root = tmp_path_factory.mktemp("page")
    publish(detector(), DETECTOR, root / "build" / "yolox_nano" / "yolox_nano" / "1")
    Image.fromarray(photo()).save(root / "street.jpg")
    (root / "bin").mkdir()
    (root / "bin" / "axmodel").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m axforge.axruntime "$@"\n')
    (root / "bin" / "axmodel").chmod(0o755)
    return root


@pytest.mark.parametrize(("language", "text"), BLOCKS, ids=[f"{i}-{language}" for i, (language, _) in enumerate(BLOCKS)])
def test_a_block_does_what_the_page_says(place: Path, language: str, text: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    command = ["sh", "-e", "-c", text] if language == "sh" else [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    for name in re.findall(r"(?:-o |--save-output |save\(\")([\w.]+)", text):
        assert (place / name).exists()


def test_the_page_has_blocks() -> None:
    assert [language for language, _ in BLOCKS] == ["sh", "sh", "python", "python"]
