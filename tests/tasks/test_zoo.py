"""Models of the table of published networks: found by name like those with a folder, and only then is the table read."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tasks_support import Project, answer

from axforge.ax_models.zoo import table
from axforge.axcompiler.errors import AxforgeError
from axforge.tasks import describing
from axforge.tasks.project import zoo
from axforge.tasks.project.settings import Settings, zoo_folder

NETWORK = "yolov10n-coco-onnx"


def settings(root: Path) -> Settings:
    """Of a project without models of its own."""
    return Settings(project=root, typed_in=root, build_root=root / "build", data_root=None, models=(zoo_folder(),))


def test_a_network_of_the_table_compiles_by_its_name(quick: Project) -> None:
    words = (f"compile:{NETWORK}", "--onnx", "tiny.onnx")
    done = quick.doit(*words, "--explain")
    assert done.status == 0, done.out + done.err
    assert done.ran(NETWORK) == ["fetch", "check", "calibrate", "quantize", "optimize", "tile", "pack"]
    published = json.loads((quick.root / "build" / NETWORK / NETWORK / "1" / "model.json").read_text())
    assert published["postprocessing"][0]["type"] == "decode_yolov8"
    assert len(published["labels"]) == 80
    again = quick.doit(*words, "--explain")
    assert again.ran(NETWORK) == []


def test_without_an_address_it_says_how_to_give_the_network(quick: Project) -> None:
    done = quick.doit(f"compile:{NETWORK}")
    assert done.status == 1
    assert "give the file: --onnx path" in (done.out + done.err).lower()


def test_what_cannot_be_compiled_says_why(quick: Project) -> None:
    done = quick.doit("compile:yolov8n-yolov8s")
    assert done.status == 1
    assert "Several networks in one pipeline" in done.out + done.err
    assert "Traceback" not in done.err


def test_a_network_of_the_table_is_shown_like_any_model(tmp_path: Path) -> None:
    shown = "\n".join(describing.lines(NETWORK, settings(tmp_path)))
    assert "decode_yolov8" in shown
    assert "mAP50-95 38.08 %" in shown


def test_near_names_of_the_table_are_proposed(tmp_path: Path) -> None:
    with pytest.raises(AxforgeError, match="yolov10n-coco-onnx"):
        zoo.find("yolov10n-cocoo-onnx", settings(tmp_path))


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "model.json"])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    assert not zoo.known(name, settings(tmp_path))
    with pytest.raises(AxforgeError, match="no model"):
        zoo.find(name, settings(tmp_path))
    assert not (tmp_path / "build").exists()


def test_a_folder_wins_over_the_table(tmp_path: Path) -> None:
    assert table.find("yolov8n-coco") is not None
    assert zoo.find("yolov8n-coco", settings(tmp_path)).path == zoo_folder() / "yolov8n-coco" / "model.json"


def test_a_descriptor_is_written_once_and_after_an_edit_again(tmp_path: Path) -> None:
    path = zoo.find(NETWORK, settings(tmp_path)).path
    before = path.stat()
    assert zoo.find(NETWORK, settings(tmp_path)).path.stat() == before
    path.write_text("{}")
    assert zoo.find(NETWORK, settings(tmp_path)).raw["name"] == NETWORK


def test_a_build_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "build").write_text("a file")
    with pytest.raises(AxforgeError, match="cannot be written"):
        zoo.find(NETWORK, settings(tmp_path))


def test_the_table_is_not_read_for_a_model_that_has_a_folder(quick: Project) -> None:
    script = (
        "import sys; sys.argv = ['doit', 'list']\n"
        "from pathlib import Path\n"
        "from axforge.tasks.project import zoo; from axforge.tasks.project.settings import PROJECT\n"
        "here = PROJECT.settings()\n"
        "assert zoo.known('yolox_nano', here) and zoo.find('yolox_nano', here).raw and zoo.names(here)\n"
        "print([name for name in sys.modules if name.startswith('axforge.ax_models.zoo')])\n"
    )
    done = answer([sys.executable, "-c", script], quick.root, quick.env())
    assert done.out.strip() == "[]", done.out + done.err


def test_a_file_that_was_fetched_in_pieces_of_two_files_is_fetched_again(quick: Project, tmp_path: Path) -> None:
    data = quick.onnx.read_bytes()
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "net.onnx").write_bytes(data)
    kept = quick.root / "build" / "downloads" / f"{md5}.part"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"another file")
    read, write = os.pipe()

    with subprocess.Popen(
        [sys.executable, str(tmp_path / "server.py"), str(tmp_path / "net.onnx"), str(write)], pass_fds=[write]
    ) as server:
        os.close(write)
        with os.fdopen(read) as said:
            port = said.readline().strip()
        quick.describe(source={"url": f"http://127.0.0.1:{port}/net.onnx", "md5": md5})
        done = quick.doit("compile:tiny:fetch")
        server.terminate()
    assert done.status == 0, done.out + done.err
    assert (quick.built.parent / "stages" / "fetch" / "model.onnx").read_bytes() == data
    assert not kept.exists()


#: Serves one file, and the rest of it where asked for.
SERVER = """
import http.server, os, sys
data = open(sys.argv[1], "rb").read()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        first = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        self.wfile.write(data[first:])
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
os.write(int(sys.argv[2]), f"{server.server_address[1]}\\n".encode())
os.close(int(sys.argv[2]))
server.serve_forever()
"""
