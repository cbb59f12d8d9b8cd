"""A bundle of the cache, used where there is no network, nothing of the first machine's folders, and not even the source of the model."""

import hashlib
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tasks_support import STAGES, Project, make_project

#: Found by Python at its start: a process that talks to anybody fails.
NO_NETWORK = """\
import socket

def refuse(self, *address):
    raise SystemExit(f"a connection to {address} was tried")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = refuse
"""


@pytest.fixture
def server(project: Project) -> Iterator[str]:
    """The address of the project's folder, as long as the first machine is needed."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(project.root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}/tiny.onnx"
        serving.shutdown()


def elsewhere(project: Project, tmp_path: Path) -> Project:
    """The same model and pictures in another folder, with another cache, another home and no network; the ONNX is not there."""
    (tmp_path / "other").mkdir()
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(NO_NETWORK)
    other = make_project(tmp_path / "other" / "place", tmp_path / "other" / "cache")
    other.onnx.unlink()
    shutil.copy(project.descriptor, other.descriptor)
    path = f"{tmp_path / 'blocked'}:{other.environment.get('PYTHONPATH', '')}"
    return Project(other.root, {**other.environment, "HOME": str(tmp_path / "other"), "PYTHONPATH": path})


def test_a_bundle_is_all_that_a_machine_without_network_needs(project: Project, server: str, tmp_path: Path) -> None:
    """The real stages, restored from the bundle alone and run."""
    content = hashlib.sha256(project.onnx.read_bytes()).hexdigest()
    project.describe(source={"url": server, "sha256": content})
    project.compile()
    done = project.doit("cache", "export", "tiny", "-o", "out.bundle")
    assert done.status == 0, done.out + done.err
    assert "7 records" in done.out
    other = elsewhere(project, tmp_path)
    failed = other.doit("compile:tiny", "--require-cached")
    assert (failed.status, "The result of fetch is not in the cache" in failed.err) == (1, True)
    shutil.move(project.root / "out.bundle", other.root / "in.bundle")
    expected = (project.built / "model.axmodel").read_bytes()
    shutil.rmtree(project.root)
    done = other.doit("cache", "import", "in.bundle")
    assert done.status == 0, done.out + done.err
    assert "7 of 7 records kept" in done.out
    assert "models: tiny" in done.out
    done = other.compile("--require-cached")
    assert done.stages() == dict.fromkeys(STAGES, "restored")
    assert (other.built / "model.axmodel").read_bytes() == expected
    done = other.doit("infer:tiny:pictures/img_0.png", "--require-cached", "--save-output", "out")
    assert done.status == 0, done.out + done.err
    assert len(json.loads((other.root / "out" / "img_0.json").read_text())["frames"]) == 1


def test_the_network_is_really_blocked(project: Project, server: str, tmp_path: Path) -> None:
    other = elsewhere(project, tmp_path)
    other.describe(source={"url": server, "sha256": hashlib.sha256(project.onnx.read_bytes()).hexdigest()})
    done = other.doit("compile:tiny:fetch")
    assert "was tried" in done.out + done.err


def test_a_model_that_is_not_compiled_is_not_exported(project: Project, tmp_path: Path) -> None:
    project.fake_stages()
    project.compile()
    project.describe(compile={"quantize": {"scheme": "minmax"}})
    done = project.doit("cache", "export", "tiny", "-o", str(tmp_path / "out.bundle"))
    assert (done.status, "The result of quantize is not in the cache" in done.err) == (1, True)
    assert not (tmp_path / "out.bundle").exists()


def test_paths_begin_where_they_are_typed(project: Project) -> None:
    project.fake_stages()
    project.compile()
    done = project.doit("-f", "../dodo.py", "cache", "export", "tiny", "-o", "x.bundle", cwd=project.pictures)
    assert done.status == 0, done.out + done.err
    assert (project.pictures / "x.bundle").is_file()
    done = project.doit("-f", "../dodo.py", "cache", "import", "x.bundle", cwd=project.pictures)
    assert (done.status, "0 of 7 records" in done.out) == (0, True)
