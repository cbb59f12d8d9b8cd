"""What the README says works, word for word."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from deployed_models import ANIMALS, CLASSIFIER, classifier, photo, publish
from PIL import Image

from axforge.ax_models.builders import efficientnet_lite0

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run(example: str, folder: Path) -> str:
    """What an example prints when it runs in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", example], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_compiled_folder_answers(tmp_path):
    example, _ = blocks("python")
    name = "efficientnet_lite0-imagenet"
    publish(classifier(), CLASSIFIER, tmp_path / "build" / name / name / "1")
    Image.fromarray(photo()).save(tmp_path / "photo.jpg")
    assert json.loads(run(example, tmp_path))["classes"][0]["label"] in ANIMALS
    assert Image.open(tmp_path / "answer.png").width >= 80


def test_the_compiling_example_recognises_the_uniform(tmp_path):
    _, example = blocks("python")
    assert len(example.splitlines()) <= 10
    efficientnet_lite0.build(None, tmp_path / "efficientnet_lite0.onnx")
    assert run(example, tmp_path) == "652"
    assert (tmp_path / "efficientnet_lite0.axmodel").stat().st_size > 4_000_000


def test_two_commands_do_the_setting_up():
    first, second = (block.strip() for block in blocks("sh")[:2])
    assert first.startswith("python -m pip install -e '.[compile]' && doit infer:")
    assert "pytest" in second


def test_every_page_it_names_is_there():
    pages = re.findall(r"\]\(([^)#]+)\)", README)
    assert "docs/design.md" in pages
    assert [p for p in pages if not p.startswith("http") and not (ROOT / p).exists()] == []
