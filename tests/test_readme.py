"""What the README says works, word for word."""

import os
import re
import subprocess
import sys
from pathlib import Path

from axforge.ax_models.builders import efficientnet_lite0

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_library_example_recognises_the_uniform(tmp_path):
    (example,) = blocks("python")
    assert len(example.splitlines()) <= 10
    efficientnet_lite0.build(None, tmp_path / "efficientnet_lite0.onnx")
    script = tmp_path / "example.py"
    script.write_text(example)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "652", done.stderr
    assert (tmp_path / "efficientnet_lite0.axmodel").stat().st_size > 4_000_000


def test_two_commands_do_the_setting_up():
    first, second = (block.strip() for block in blocks("sh")[:2])
    assert first.startswith("python -m pip install -e . && doit infer:")
    assert "pytest" in second


def test_every_page_it_names_is_there():
    pages = re.findall(r"\]\(([^)#]+)\)", README)
    assert "docs/design.md" in pages
    assert [p for p in pages if not p.startswith("http") and not (ROOT / p).exists()] == []
