"""A compiled folder, or one zip of it, runs where nothing else is, and says what is wrong with it."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from deployed_models import ANIMALS, CLASSIFIER, DETECTOR, classifier, detector, photo, publish
from PIL import Image

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.__main__ import main
from axforge.axruntime.deployed.bundle import write_bundle
from axforge.axruntime.deployed.opening import open_deployed
from axforge.axruntime.deployed.seal import published_json
from axforge.axruntime.model import Model

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """build/ with both models."""
    root = tmp_path_factory.mktemp("build")
    publish(classifier(), CLASSIFIER, root / "tiny" / "tiny" / "1")
    publish(detector(), DETECTOR, root / "finder" / "finder" / "1")
    return root


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """The classifier, to be damaged."""
    return Path(shutil.copytree(built / "tiny" / "tiny" / "1", tmp_path / "tiny"))


def refused(path: Path | str, sentence: str) -> None:
    """Opening fails with one sentence."""
    with pytest.raises(AxforgeError, match=sentence) as caught:
        Model(path)
    assert caught.value.what
    assert "Traceback" not in str(caught.value)


# ---------------------------------------------------------------- what is opened


def test_folder_bundle_and_bare_file_give_the_same(built: Path, tmp_path: Path) -> None:
    folder = built / "tiny" / "tiny" / "1"
    bundle = write_bundle(folder, tmp_path / "model.zip")
    shutil.copytree(folder, tmp_path / "renamed")
    (tmp_path / "renamed" / "model.axmodel").rename(tmp_path / "renamed" / "my.axmodel")
    paths = [folder, str(folder), bundle, folder / "model.axmodel", tmp_path / "renamed" / "my.axmodel"]
    answers = [Model(path)(photo()).to_json() for path in paths]
    assert len(set(answers)) == 1
    assert set(json.loads(answers[0])["classes"][0]) == {"class_id", "label", "score"}


def test_labels_travel_in_model_json(built: Path) -> None:
    assert open_deployed(built / "tiny" / "tiny" / "1").descriptor is not None
    assert Model(built / "tiny" / "tiny" / "1").labels == ANIMALS


def test_a_label_file_beside_a_model_json_written_by_hand_is_bundled(folder: Path, tmp_path: Path) -> None:
    (folder / "model.json").write_text(json.dumps(CLASSIFIER))
    refused(folder, r"label file 'animals\.txt' is not in it")
    (folder / "animals.txt").write_text("\n".join(ANIMALS), encoding="utf-8")
    assert Model(write_bundle(folder, tmp_path / "m.zip")).labels == ANIMALS
    (folder / "model.json").write_text(json.dumps(CLASSIFIER | {"labels": "../tiny/animals.txt"}))
    refused(folder, "is not in it")


def test_a_bare_file_takes_arrays_only(folder: Path, tmp_path: Path) -> None:
    path = shutil.copy(folder / "model.axmodel", tmp_path / "bare.axmodel")
    model = Model(path)
    assert model.run({"x": np.zeros((1, 3, 16, 16), np.float32)})["y"].shape == (1, 5)
    with pytest.raises(AxforgeError, match=r"has no pipeline(.|\n)*model\.run"):
        model(photo())


def test_the_manifest_gives_scales(built: Path) -> None:
    manifest = Model(built / "finder" / "finder" / "1").manifest
    assert manifest is not None
    assert manifest.inputs[0].shape == (1, 3, 16, 16)
    assert manifest.outputs[0].scale > 0


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("tiny", "neither a file nor a model that can be compiled here"),
        ("nowhere/x.axmodel", "no such file or folder"),
        ("", "path of the model is empty"),
        ("x" * 5000, "the path cannot be read: File name too long"),
        ("a\0b", "no such file or folder"),
        ("/dev/null", "the file is empty"),
        (None, "of type NoneType"),
        (7, "of type int"),
    ],
)
def test_what_is_not_there_is_named(path: Any, sentence: str) -> None:
    refused(path, sentence)


def test_a_folder_above_is_answered_with_the_one_that_is_meant(built: Path) -> None:
    refused(built / "tiny", r"no model\.axmodel in it(.|\n)*Did you mean .*tiny.tiny.1\?")


# ---------------------------------------------------------------- edits and contradictions


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def test_an_edit_of_model_json_is_noticed_and_another_indentation_is_not(folder: Path) -> None:
    path = folder / "model.json"
    edit(path, lambda document: None)
    Model(folder)
    edit(path, lambda document: document["postprocessing"][0].update(k=1))
    refused(folder, r"model\.json was edited after it was published(.|\n)*remove the key")
    edit(path, lambda document: document.pop("published"))
    assert len(Model(folder)(photo()).as_json()["classes"]) == 1  # type: ignore[arg-type]


def test_another_model_under_the_same_name_is_noticed(folder: Path, built: Path) -> None:
    shutil.copy(built / "finder" / "finder" / "1" / "model.axmodel", folder / "model.axmodel")
    refused(folder, r"model\.axmodel was edited after it was published")
    edit(folder / "model.json", lambda document: document.pop("published"))
    refused(folder, r"manifest\.json says .* is .*, and model\.axmodel says")


def test_a_manifest_that_contradicts_names_key_and_values(folder: Path) -> None:
    edit(folder / "manifest.json", lambda document: document.update(quantize_params=[[0.5, 3]]))
    refused(folder, r"manifest\.json says quantize_params\[0\]\[0\] is 0\.5, and model\.axmodel says 0\.\d+")


@pytest.mark.parametrize("name", ["model.axmodel", "manifest.json", "model.json"])
@pytest.mark.parametrize("content", [b"", b"x", b'{"a": 1}', b"\xff" * 100])
def test_a_file_that_is_not_what_it_should_be_is_a_sentence(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    refused(folder, name)


def test_publishing_replaces_an_older_seal() -> None:
    first = published_json(json.dumps(CLASSIFIER).encode(), ANIMALS, {"model.axmodel": "a" * 64})
    again = published_json(first, ANIMALS, {"model.axmodel": "b" * 64})
    assert json.loads(first)["labels"] == list(ANIMALS)
    assert json.loads(again)["published"]["model.axmodel"] == "b" * 64
    assert json.loads(again)["published"]["model.json"] == json.loads(first)["published"]["model.json"]


# ---------------------------------------------------------------- zips


def test_the_same_folder_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first = write_bundle(folder, tmp_path / "a.zip").read_bytes()
    other = shutil.copytree(folder, tmp_path / "other")
    for path in other.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert write_bundle(other, tmp_path / "b.zip").read_bytes() == first


def test_a_zip_made_by_hand_of_the_folder_works(folder: Path, tmp_path: Path) -> None:
    made = shutil.make_archive(str(tmp_path / "hand"), "zip", folder.parent, folder.name)
    assert Model(made).name == "tiny"


def zipped(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two entries with one name
        for name, data in entries:
            archive.writestr(name, data)
    return path


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([("../model.axmodel", b"")], "names a place outside itself"),
        ([("/etc/model.axmodel", b"")], "names a place outside itself"),
        ([("a\\..\\model.axmodel", b"")], "names a place outside itself"),
        ([("C:model.axmodel", b"")], "names a place outside itself"),
        ([("model.axmodel", b"a"), ("model.axmodel", b"b")], r"two files 'model\.axmodel'"),
        ([("model.axmodel", b"a"), ("MODEL.axmodel", b"b")], "two files"),
        ([("a/model.axmodel", b"a"), ("b/model.json", b"b")], "more than one folder"),
        ([(link("model.axmodel"), b"/etc/passwd")], "is a link"),
        ([(f"{i}.txt", b"") for i in range(65)], "has 65 files"),
        ([("other.txt", b"")], r"no model\.axmodel in it"),
        ([], r"no model\.axmodel in it"),
    ],
)
def test_a_zip_that_no_bundle_is_like_is_refused(entries: list[tuple[Any, bytes]], sentence: str, tmp_path: Path) -> None:
    refused(zipped(tmp_path / "m.zip", *entries), sentence)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "m.zip", ("model.axmodel", bytes(64 << 20)), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    refused(path, "claims to unpack")
    refused(zipped(tmp_path / "n.zip", ("model.json", bytes(33 << 20)), compression=zipfile.ZIP_DEFLATED), "more than the 33554432")


def _refused_as_overlapping(path: Path) -> bool:
    """Whether this version of Python compares the length of the first entry's data with where the next one begins."""
    try:
        with zipfile.ZipFile(path) as archive:
            archive.read(archive.infolist()[0])
    except zipfile.BadZipFile:
        return True
    return False


@pytest.mark.parametrize("part", range(12))
def test_a_damaged_zip_is_a_sentence_or_does_no_harm(folder: Path, tmp_path: Path, part: int) -> None:
    data = bytearray(write_bundle(folder, tmp_path / "m.zip").read_bytes())
    directory = struct.unpack("<I", data[-6:-2])[0]
    places = {0: slice(0, 4), 1: slice(200, 300), 2: slice(-30, None), 3: slice(6, 12), 4: slice(-22, -10)}
    if part in places:
        data[places[part]] = b"\xa5" * len(data[places[part]])
    elif part == 5:
        del data[len(data) // 2 :]
    elif part == 6:
        data = data[:100]
    else:
        at = directory + (4, 8, 10, 20, 28, 42)[part - 7]  # fields of the first entry
        data[at : at + 4] = b"\xff\xff\xff\x7f"
    path = tmp_path / "damaged.zip"
    path.write_bytes(data)
    if part == 3 or (part == 10 and not _refused_as_overlapping(path)):  # fields that nobody reads
        assert Model(path)(photo()).to_json() == Model(folder)(photo()).to_json()
        return
    with pytest.raises(AxforgeError) as caught:
        Model(path)
    assert "damaged.zip" in caught.value.where


def test_only_a_compiled_folder_is_bundled(folder: Path, tmp_path: Path) -> None:
    not_folders = {tmp_path / "absent": "not a folder", folder / "model.axmodel": "not a folder", tmp_path: r"no model\.axmodel"}
    for wrong, sentence in not_folders.items():
        with pytest.raises(AxforgeError, match=sentence):
            write_bundle(wrong, tmp_path / "out.zip")
    with pytest.raises(AxforgeError, match="cannot be written"):
        write_bundle(folder, folder / "model.json" / "out.zip")
    (folder / "model.json").unlink()
    with pytest.raises(AxforgeError, match=r"no model\.json"):
        write_bundle(folder, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


# ---------------------------------------------------------------- nothing else is needed

ALONE = """
import json, sys
allowed = {"axforge", *sys.argv[1].split(","), *sys.stdlib_module_names}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Blocker())
from axforge import Model
for path in sys.argv[2:]:
    with Model(path) as model:
        result = model("photo.png")
        result.plot().save("plot.png")
        print(result.to_json())
loaded = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(json.dumps(sorted(loaded & {"onnx", "doit", "yaml", "xxhash", "rich", "matplotlib", "onnxruntime", "llvmlite"})))
"""
BASE = "numpy,msgspec,PIL,cv2"


def alone(folder: Path, packages: str, *models: Path) -> list[Any]:
    """What a process prints that can import nothing but `packages`, in an empty home."""
    (folder / "home").mkdir(exist_ok=True)
    Image.fromarray(photo()).save(folder / "photo.png")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AXFORGE_", "XDG_"))}
    environment = kept | {"HOME": str(folder / "home"), "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", ALONE, packages, *map(str, models)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_bundle_runs_with_a_few_packages_only(built: Path, tmp_path: Path) -> None:
    tiny = write_bundle(built / "tiny" / "tiny" / "1", tmp_path / "tiny.zip")
    finder = write_bundle(built / "finder" / "finder" / "1", tmp_path / "finder.zip")
    classes, loaded = alone(tmp_path, f"{BASE},llvmlite", tiny)
    assert classes == Model(tiny)(photo()).as_json()
    assert loaded == ["llvmlite"]
    again, loaded = alone(tmp_path, BASE, tiny)
    assert (again, loaded) == (classes, []), "native code is cached, so LLVM is not needed a second time"
    boxes, loaded = alone(tmp_path, f"{BASE},llvmlite,onnxruntime", finder)
    assert boxes == Model(finder)(photo()).as_json()
    assert boxes["detections"]
    assert loaded == ["llvmlite", "onnxruntime"], "the Sigmoid at its end runs in float32"


@pytest.mark.parametrize(
    ("model", "packages", "missing"),
    [
        ("tiny", "numpy,msgspec,PIL,cv2", "llvmlite"),
        ("tiny", "numpy,msgspec,cv2,llvmlite", "pillow"),
        ("tiny", "numpy,msgspec,PIL,llvmlite", "opencv-python-headless"),
        ("finder", f"{BASE},llvmlite", "onnxruntime"),
    ],
)
def test_a_package_that_is_missing_is_named(built: Path, tmp_path: Path, model: str, packages: str, missing: str) -> None:
    with pytest.raises(AssertionError, match=rf"AxforgeError: the package {missing}, which this needs(.|\n)*pip install {missing}"):
        alone(tmp_path, packages, built / model / model / "1")


# ---------------------------------------------------------------- the commands


def test_bundle_run_and_verify_from_the_command_line(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, picture = tmp_path / "m.zip", tmp_path / "photo.png"
    Image.fromarray(photo()).save(picture)
    assert main(["bundle", str(built / "tiny" / "tiny" / "1"), "-o", str(bundle)]) == 0
    assert main(["verify", str(bundle), str(built / "finder" / "finder" / "1")]) == 0
    assert capsys.readouterr().out.count("sound") == 2
    assert main(["run", str(bundle), str(picture), "--save-output", str(tmp_path / "out" / "seen.png")]) == 0
    assert "class  score" in capsys.readouterr().out
    assert Image.open(tmp_path / "out" / "seen.png").width >= 80
    assert main(["run", str(bundle), "fakevideo:32x24", "--frames", "3", "--json", "--save-output", str(tmp_path / "video")]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2]
    assert lines[0]["result"]["type"] == "classification"
    assert list((tmp_path / "video").glob("*.mp4"))


def test_run_names_a_bad_picture_and_goes_on(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, folder = tmp_path / "pictures", str(built / "finder" / "finder" / "1")
    pictures.mkdir()
    for name in ("a", "c"):
        Image.fromarray(photo()).save(pictures / f"{name}.png")
    (pictures / "b.png").write_bytes(b"not a picture")
    assert main(["run", folder, str(pictures), "--save-output", str(tmp_path / "seen")]) == 0
    said = capsys.readouterr()
    assert "WARNING: b.png is skipped: " in said.err
    assert [line.split(":")[0] for line in said.out.splitlines()[:2]] == ["a.png", "c.png"]
    document = json.loads((tmp_path / "seen" / "pictures.json").read_text())
    assert [len(document[key]) for key in ("frames", "skipped")] == [2, 1]
    assert main(["run", folder, str(pictures), "--strict"]) == 1
    assert "b.png" in capsys.readouterr().err


def test_a_signal_leaves_what_run_has_written(built: Path, tmp_path: Path) -> None:
    words = ["run", str(built / "finder" / "finder" / "1"), "fakevideo:320x240", "--save-output", str(tmp_path / "seen.mp4")]
    command = [sys.executable, "-m", "axforge.axruntime", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest, said = process.communicate(timeout=60)
    assert process.returncode == 143
    count = 3 + sum(line.startswith("fakevideo") for line in rest.splitlines())
    assert f"Stopped by SIGTERM after {count} frames." in said
    assert len(json.loads((tmp_path / "seen.json").read_text())["frames"]) == count
    capture = cv2.VideoCapture(str(tmp_path / "seen.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == count


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "absent.zip", "photo.png"], "no such file or folder"),
        (["bundle", "absent", "-o", "x.zip"], "not a folder with a compiled model"),
        (["verify", "absent.zip"], "no such file or folder"),
    ],
)
def test_a_mistake_on_the_command_line_is_a_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo()).save("photo.png")
    assert main(words) == 1
    assert sentence in capsys.readouterr().err
