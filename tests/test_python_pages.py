"""Every block of docs/python.md, pipelines.md and serving.md, tiny networks in the place of theirs; the service runs for real."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed_models import CLASSIFIER, DETECTOR, classifier, detector, photo, publish
from PIL import Image

from axforge.axruntime.deployed.bundle import write_bundle
from axforge.axruntime.media.sources.fakevideo import fake_picture
from axforge.axruntime.media.video_writer import VideoWriter

ROOT = Path(__file__).resolve().parents[1]
NEEDS = ("pandas", "supervision", "tritonclient")


def blocks(page: str) -> list[str]:
    """The Python blocks of a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader has it: a bundle, a photo and a video."""
    root = tmp_path_factory.mktemp("pages")
    write_bundle(publish(detector(), {**DETECTOR, "name": "yolox_nano"}, root / "yolox_nano" / "1"), root / "yolox_nano.zip")
    Image.fromarray(photo()).save(root / "street.jpg")
    Image.fromarray(photo()).save(root / "page.png")
    steps = [*DETECTOR["postprocessing"], {"type": "run_model", "model": "ppocr_rec"}]
    outer = publish(detector(), {**DETECTOR, "name": "ppocr", "postprocessing": steps}, root / "ppocr" / "1")
    reader = {
        **CLASSIFIER,
        "name": "ppocr_rec",
        "task": "text-recognition",
        "postprocessing": [{"type": "decode_ctc"}],
        "labels": list("abcd"),
    }
    write_bundle(publish(classifier(), reader, root / "ppocr_rec"), outer / "ppocr_rec.zip")
    write_bundle(outer, root / "ppocr.zip")
    writer = VideoWriter(root / "traffic.mp4", 25.0)
    for i in range(30):
        writer.write(fake_picture(64, 48, i))
    writer.close()
    return root


def runs(place: Path, text: str) -> None:
    for package in NEEDS:
        if package in text or (package == "pandas" and "to_dataframe" in text):
            pytest.importorskip(package, reason="the block uses it")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", text], cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    for name in re.findall(r"save\(\"([\w.]+)", text):
        assert (place / name).exists()


@pytest.mark.parametrize("text", [*blocks("python.md"), *blocks("pipelines.md")])
def test_a_block_about_python_works(place: Path, text: str) -> None:
    runs(place, text)


@pytest.fixture(scope="module")
def port(place: Path) -> Iterator[int]:
    """A service as the page starts it, at a port that is free."""
    for package in ("starlette", "uvicorn", "prometheus_client"):
        pytest.importorskip(package, reason="the extra `serve` is not installed")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "axforge.cli.main", "serve", "yolox_nano.zip", "--port", str(free)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{free}" in process.stdout.readline()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and socket.socket().connect_ex(("127.0.0.1", free)):
            time.sleep(0.05)
        yield free
        process.terminate()
        assert "Stopped" in process.stdout.read()
    assert process.returncode == 0


@pytest.mark.parametrize("text", blocks("serving.md"), ids=range(len(blocks("serving.md"))))
def test_a_block_about_serving_works(place: Path, port: int, text: str) -> None:
    assert "127.0.0.1:8000" in text
    runs(place, text.replace(":8000", f":{port}"))


def test_the_pages_have_blocks() -> None:
    assert (len(blocks("python.md")), len(blocks("serving.md"))) == (5, 2)
