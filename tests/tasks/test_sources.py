"""Where an ONNX may come from, and what is said when it is not there or not what it should be."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data
from tasks_support import Project, tiny_model


@pytest.fixture
def quick(project: Project) -> Project:
    """A project whose stages are stand-ins; fetch is the real one."""
    project.fake_stages()
    return project


def fetched(project: Project) -> bytes:
    """The artefact of fetch."""
    return (project.built.parent / "stages" / "fetch" / "model.onnx").read_bytes()


def fetch(project: Project, *words: str, status: int = 0) -> str:
    """Run the stage; returns what was printed."""
    done = project.doit("compile:tiny:fetch", *words)
    assert done.status == status, done.out + done.err
    assert "Traceback" not in done.err
    return done.out + done.err


def external(path: Path, location: str = "weights.bin") -> None:
    """Save the tiny model with its tensors in another file."""
    model = tiny_model()
    convert_model_to_external_data(model, location=location, size_threshold=0)
    onnx.save(model, path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server for files in tmp_path/www; yields its address."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(folder), **kwargs)  # type: ignore[arg-type, misc]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def test_external_data_are_pulled_in(quick: Project) -> None:
    external(quick.onnx)
    fetch(quick)
    inside = onnx.load_from_string(fetched(quick))
    assert [onnx.numpy_helper.to_array(t).tobytes() for t in inside.graph.initializer] == [
        onnx.numpy_helper.to_array(t).tobytes() for t in tiny_model().graph.initializer
    ]


def test_changed_external_data_are_another_model(quick: Project) -> None:
    external(quick.onnx)
    fetch(quick)
    before = fetched(quick)
    weights = quick.root / "weights.bin"
    data = bytearray(weights.read_bytes())
    data[100] ^= 1
    weights.write_bytes(data)
    fetch(quick)
    assert fetched(quick) != before


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "a/../../outside.bin"])
def test_external_data_outside_the_folder_are_refused(quick: Project, location: str) -> None:
    external(quick.onnx)
    model = onnx.load(quick.onnx, load_external_data=False)
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    onnx.save(model, quick.onnx)
    (quick.root.parent / "outside.bin").write_bytes(b"secret" * 1000)
    assert "outside the model's folder" in fetch(quick, status=1)


def test_missing_external_data_are_named(quick: Project) -> None:
    external(quick.onnx)
    (quick.root / "weights.bin").unlink()
    assert "weights.bin" in fetch(quick, status=1)


@pytest.mark.parametrize("content", [b"", b"hello, I am no model", b"\x00" * 100])
def test_what_is_no_onnx_is_refused(quick: Project, content: bytes) -> None:
    quick.onnx.write_bytes(content)
    assert "not an ONNX file" in fetch(quick, status=1)


def test_a_truncated_onnx_is_refused(quick: Project) -> None:
    quick.onnx.write_bytes(quick.onnx.read_bytes()[:-40])
    assert "ONNX" in fetch(quick, status=1)


def test_the_user_reads_where_a_missing_file_should_be(quick: Project) -> None:
    quick.onnx.unlink()
    told = fetch(quick, status=1)
    assert str(quick.onnx) in told
    assert "--onnx PATH" in told


def test_without_a_data_root_the_user_reads_how_to_name_one(quick: Project) -> None:
    """Where the project has models of its own, their paths begin at the project; these are somebody else's."""
    (quick.root / "models").rename(quick.root / "nets")
    dodo = quick.root / "dodo.py"
    dodo.write_text(dodo.read_text().replace('models_in("models")\n', ""))
    done = quick.doit("compile:tiny:fetch", AXFORGE_DATA_ROOT="", AXFORGE_MODELS=str(quick.root / "nets"))
    assert done.status == 1
    assert "no data root is set" in done.err
    assert "AXFORGE_DATA_ROOT" in done.err


def test_without_a_data_root_paths_of_a_projects_own_models_begin_at_the_project(quick: Project) -> None:
    done = quick.doit("compile:tiny:fetch", AXFORGE_DATA_ROOT="")
    assert done.status == 0, done.err


def test_a_given_file_is_relative_to_where_it_was_typed(quick: Project) -> None:
    other = quick.root / "elsewhere"
    other.mkdir()
    onnx.save(tiny_model(seed=5), other / "mine.onnx")
    done = quick.doit("-f", str(quick.root / "dodo.py"), "compile:tiny:fetch", "onnx=mine.onnx", cwd=other)
    assert done.status == 0, done.out + done.err
    assert fetched(quick) == (other / "mine.onnx").read_bytes()


def test_an_address_is_downloaded_once_and_checked(quick: Project, server: str, tmp_path: Path) -> None:
    data = tiny_model(seed=3).SerializeToString()
    (tmp_path / "www" / "net.onnx").write_bytes(data)
    quick.describe(source={"url": f"{server}/net.onnx", "sha256": hashlib.sha256(data).hexdigest()})
    fetch(quick)
    assert fetched(quick) == data
    (tmp_path / "www" / "net.onnx").unlink()
    (quick.built.parent / "stages" / "fetch" / "model.onnx").unlink()
    assert "restored" in fetch(quick)


def test_wrong_bytes_from_an_address_are_refused(quick: Project, server: str, tmp_path: Path) -> None:
    (tmp_path / "www" / "net.onnx").write_bytes(tiny_model().SerializeToString())
    quick.describe(source={"url": f"{server}/net.onnx", "md5": "0" * 32})
    assert "md5" in fetch(quick, status=1)
    assert not (quick.built.parent / "stages" / "fetch").exists() or not list((quick.built.parent / "stages" / "fetch").iterdir())


def test_without_a_network_it_is_told_which_file_to_put_where(quick: Project) -> None:
    data = tiny_model(seed=4).SerializeToString()
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    quick.describe(source={"url": "http://127.0.0.1:9/models/net.onnx", "md5": md5})
    told = fetch(quick, status=1)
    place = quick.root / "models" / "net.onnx"
    assert str(place) in told
    assert md5 in told
    assert "--onnx PATH" in told
    place.write_bytes(data)
    fetch(quick)
    assert fetched(quick) == data


def test_a_given_file_with_the_right_checksum_is_the_address(quick: Project) -> None:
    data = quick.onnx.read_bytes()
    quick.describe(source={"url": "http://127.0.0.1:9/net.onnx", "md5": hashlib.md5(data, usedforsecurity=False).hexdigest()})
    fetch(quick, f"onnx={quick.onnx}")
    assert "restored" in fetch(quick), "the cache has what the address would give"


def test_a_builder_of_the_zoo_runs_and_says_what_it_needs(quick: Project) -> None:
    quick.describe(source={"builder": "axforge.ax_models.builders.shape:nothing"})
    assert "does not exist" in fetch(quick, status=1)
    quick.describe(source={"builder": "axforge.ax_models.builders.no_such:f"})
    assert "is not there" in fetch(quick, status=1)


@pytest.mark.parametrize(
    "builder", ["shutil:rmtree", "os:remove", "axforge.ax_models.builders.shape:save", "axforge.ax_models.builders.shape:Path"]
)
def test_a_model_json_cannot_call_any_function_of_python(quick: Project, builder: str) -> None:
    quick.describe(source={"builder": builder})
    assert builder in fetch(quick, status=1)
    assert quick.onnx.is_file(), "the data root is as it was"


def test_a_builder_of_the_project_runs_once_its_dodo_allows_it(quick: Project) -> None:
    (quick.root / "own_nets.py").write_text("def tiny(data_root, out):\n    out.write_bytes((data_root / 'tiny.onnx').read_bytes())\n")
    quick.describe(source={"builder": "own_nets:tiny"})
    refused = fetch(quick, status=1)
    assert "allow_builders('own_nets')" in refused
    with (quick.root / "dodo.py").open("a") as dodo:
        dodo.write("\nfrom axforge.tasks import allow_builders\nallow_builders('own_nets')\n")
    fetch(quick)
    assert fetched(quick) == quick.onnx.read_bytes()
