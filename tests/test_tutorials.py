"""The tutorials, command by command, in the order of the page: the first one with its real model, the second with a small ONNX."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_models
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def follow(page: str, folder: Path) -> list[str]:
    """Do what a page says, as its reader: run its commands, and add its JSON to the model's. Returns what each block printed."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    printed = []
    for language, block in re.findall(r"^```(sh|python|json)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if language == "json":
            file = folder / "models" / "my" / "model.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | json.loads(block)))
        else:
            printed.append(run(language, block, folder))
    return printed


def run(language: str, block: str, folder: Path) -> str:
    bin_folder = folder / ".bin"
    bin_folder.mkdir(exist_ok=True)
    for name, module in (("axforge", "axforge.cli.main"), ("axmodel", "axforge.axruntime")):
        (bin_folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (bin_folder / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AXFORGE_")}
    environment |= {"PYTHONPATH": str(ROOT / "src"), "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"AXFORGE_CACHE_DIR": str(folder / "cache")}
    command = ["sh", "-e", "-c", block] if language == "sh" else [sys.executable, "-c", block]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_first_inference(tmp_path: Path) -> None:
    models, first, second, made, again = follow("first-inference.md", tmp_path)
    assert "efficientnet_lite0-imagenet" in models
    for printed in (first, second, again):
        assert "military uniform" in printed
    assert "pack: ran" in first
    assert "ran (" not in second
    assert re.search(r"cache: 7 of 7 stages restored", again)
    assert {"model.axmodel", "model.json", "manifest.json"} <= set(made.split())


def test_your_own_model(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.small_net(), tmp_path, "my.onnx")
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)) for _ in range(100)]
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / "photos" / f"{i}.png")
    pictures[0].save(tmp_path / "picture.jpg")
    printed = follow("your-own-model.md", tmp_path)
    compiled = next(text for text in printed if "pack: ran" in text)
    assert "sample photos" not in compiled
    assert json.loads(printed[-1])
