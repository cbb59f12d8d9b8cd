"""`axforge.Model` and `axforge.compile`: a picture in, a typed result out; every wrong argument is a sentence."""

import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_models import CLASSIFIER, DETECTOR, PIPELINE, classifier, detector, photo, publish
from onnx_models import save
from PIL import Image

import axforge
from axforge import AxforgeError, Model
from axforge.axruntime.results.classification import Classification
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.tensors import Tensors

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    features = {"name": "features", "preprocessing": PIPELINE["preprocessing"][1:], "postprocessing": []}
    return {
        "tiny": publish(classifier(), CLASSIFIER, root / "tiny"),
        "finder": publish(detector(), DETECTOR, root / "finder"),
        "features": publish(classifier(), features, root / "features"),
    }


@pytest.fixture(scope="module")
def tiny(folders: dict[str, Path]) -> Model:
    return Model(folders["tiny"])


# ---------------------------------------------------------------- results


def test_every_form_of_a_picture_gives_the_same(tiny: Model, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(photo()).save(path)
    forms = [path, str(path), Image.open(path), photo(), np.asfortranarray(photo()), photo()[::-1][::-1]]
    assert len({tiny(form).to_json() for form in forms}) == 1
    assert isinstance(tiny(photo()), Classification)
    grey = np.asarray(Image.fromarray(photo()).convert("L"))
    assert tiny(grey).to_json() == tiny(grey[:, :, None]).to_json() == tiny(Image.fromarray(grey)).to_json()
    assert tiny(Image.fromarray(photo()).convert("RGBA")).to_json() == tiny(photo()).to_json()


def test_a_result_draws_and_writes_itself(folders: dict[str, Path]) -> None:
    with Model(folders["finder"], threads=1) as model:
        found = model(photo())
    assert isinstance(found, Detections)
    assert (found.boxes[:, 2] <= 80).all()
    assert set(found.labels) <= {"left", "right"}
    assert json.loads(found.to_json()) == found.as_json()
    drawn = found.plot()
    assert drawn.size == (80, 60)
    assert (np.asarray(drawn) != photo()).any()
    assert found.plot(np.zeros((60, 80, 3), np.uint8)).getpixel((0, 0)) is not None
    assert repr(found).startswith("<Detections: ")
    with pytest.raises(AxforgeError, match=r"does not hold the picture(.|\n)*result\.plot\(picture\)"):
        Tensors({"a": np.zeros(3)}).plot()
    assert json.loads(Tensors({"a": np.array([np.nan, 1])}).to_json())["tensors"]["a"]["values"] == [None, 1]


def test_a_network_of_other_arrays_takes_them(folders: dict[str, Path]) -> None:
    result = Model(folders["features"]).run({"x": np.zeros((1, 3, 16, 16))})
    assert result["y"].shape == (1, 5)
    with pytest.raises(AxforgeError, match="float32 is not a picture"):
        Model(folders["features"])(np.zeros((16, 16, 3), np.float32))


def test_engines_agree(folders: dict[str, Path]) -> None:
    answers = {engine: Model(folders["finder"], engine=engine)(photo()).to_json() for engine in ("aipu-host", "sim", "reference")}
    assert len(set(answers.values())) == 1


def test_run_takes_numbers_and_codes(tiny: Model) -> None:
    feed = np.random.default_rng(0).normal(0, 1, (1, 3, 16, 16))
    real = tiny.run({"x": feed})["y"]
    assert real.dtype == np.float32
    np.testing.assert_array_equal(tiny.run({"x": feed.astype(np.float32)})["y"], real)
    codes = tiny.run({"x": feed}, raw=True)["y"]
    assert codes.dtype == np.int8
    assert tiny.manifest is not None
    given = tiny.manifest.outputs[0]
    np.testing.assert_allclose((codes.astype(np.float32) - given.zero_point) * np.float32(given.scale), real, rtol=1e-6)


def test_it_says_what_it_is(tiny: Model) -> None:
    assert repr(tiny) == "<Model tiny: classification, 5 classes, takes x float32[1, 3, 16, 16], on aipu-host>"
    assert tiny.inputs == {"x": ((1, 3, 16, 16), "float32")}
    assert list(tiny.outputs) == ["y"]
    text = subprocess.run(
        [sys.executable, "-c", "import axforge; help(axforge.Model); help(axforge.compile)"],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for words in ("from axforge import Model", "threads:", "Raises AxforgeError", "samples=", "picture: a path"):
        assert words in text


# ---------------------------------------------------------------- threads and closing


def test_calls_from_several_threads_do_not_meet(tiny: Model) -> None:
    pictures = [np.roll(photo(), 7 * i, axis=1) for i in range(8)]
    alone = [tiny(picture).to_json() for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda picture: tiny(picture).to_json(), pictures * 10)) == alone * 10


def test_closing_waits_and_a_closed_model_says_so(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(folders["tiny"])
    entered, leave, order = threading.Event(), threading.Event(), []
    plain = model._engine.run

    def slow(feeds: Any, *, raw: bool = False) -> Any:
        entered.set()
        leave.wait(10)
        order.append("run")
        return plain(feeds, raw=raw)

    monkeypatch.setattr(model._engine, "run", slow)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(model, photo())
        entered.wait(10)
        closing = pool.submit(lambda: (model.close(), order.append("closed")))
        leave.set()
        running.result(10)
        closing.result(10)
    assert order == ["run", "closed"]
    model.close()
    assert repr(model).endswith("closed>")
    for call in (lambda: model(photo()), lambda: model.run({"x": np.zeros((1, 3, 16, 16))})):
        with pytest.raises(AxforgeError, match="the model is closed"):
            call()


# ---------------------------------------------------------------- wrong arguments


def huge() -> Any:
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (20000, 20000, 3), (0, 0, 0))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (None, "None is not a picture"),
        ("", "path of the picture is empty"),
        ("nowhere.jpg", r"nowhere\.jpg: the picture cannot be read: No such file"),
        (ROOT, "cannot be read: Is a directory"),
        ("a\0b.jpg", "cannot be read: embedded null byte"),
        ("x" * 5000, "cannot be read: File name too long"),
        (Path(__file__), "its format is unknown"),
        (5, "of type int is not a picture"),
        (b"abc", "of type bytes is not a picture"),
        ([photo()], r"of type list is not a picture(.|\n)*once for each"),
        (photo() / 255, r"array of float64 is not a picture(.|\n)*\(picture \* 255\)\.round\(\)"),
        (photo().astype(np.float32), r"array of float32 is not a picture(.|\n)*: picture\.round\(\)"),
        (np.full((3, 3), np.nan), "array of float64 is not a picture"),
        (np.zeros((3, 3), bool), "array of bool is not a picture"),
        (np.array([[None]]), "array of object is not a picture"),
        (np.zeros((1, 3, 4, 4), np.uint8), r"shape \[1, 3, 4, 4\] is not a picture(.|\n)*batch"),
        (np.zeros((3, 4, 5), np.uint8), r"shape \[3, 4, 5\] is not a picture(.|\n)*transpose"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \[4, 4, 4\] is not a picture(.|\n)*fourth"),
        (np.zeros(5, np.uint8), r"shape \[5\] is not a picture"),
        (np.zeros((0, 4, 3), np.uint8), "the picture is empty: it has 4 x 0 pixels"),
        (np.zeros((0, 0)), "the picture is empty"),
        (Image.new("RGB", (0, 7)), "the picture is empty"),
        (huge(), "the picture is too large: 20000 x 20000 pixels"),
    ],
)
def test_what_is_not_a_picture_is_a_sentence(tiny: Model, picture: Any, sentence: str) -> None:
    with pytest.raises(AxforgeError, match=sentence):
        tiny(picture)


def test_a_huge_file_is_answered_by_its_size(tiny: Model, tmp_path: Path) -> None:
    Image.new("1", (20000, 20000)).save(tmp_path / "huge.png")
    with pytest.raises(AxforgeError, match=r"huge\.png: the picture is too large: it has 400 million pixels"):
        tiny(tmp_path / "huge.png")


@pytest.mark.parametrize(
    ("feeds", "sentence"),
    [
        (None, r"of type NoneType have no names(.|\n)*model\.run"),
        (np.zeros((1, 3, 16, 16)), "of type ndarray have no names"),
        ({}, "input 'x' is missing"),
        ({"y": np.zeros(3)}, r"no input 'y'(.|\n)*Inputs are: x"),
        ({"x": np.zeros((3, 16, 16))}, r"shape \[3, 16, 16\] and must have \[1, 3, 16, 16\]"),
        ({"x": None}, "must be of numbers"),
        ({"x": "text"}, "must be of numbers"),
    ],
)
def test_wrong_feeds_are_a_sentence(tiny: Model, feeds: Any, sentence: str) -> None:
    with pytest.raises(AxforgeError, match=sentence):
        tiny.run(feeds)


@pytest.mark.parametrize("options", [{"threads": -1}, {"threads": "2"}, {"threads": True}, {"threads": 10**9}, {"engine": "simm"}])
def test_wrong_options_are_a_sentence(folders: dict[str, Path], options: dict[str, Any]) -> None:
    with pytest.raises(AxforgeError, match=r"is not a number of threads|there is no engine 'simm'(.|\n)*'sim'"):
        Model(folders["tiny"], **options)


# ---------------------------------------------------------------- compiling


def test_what_is_compiled_runs_fast_and_is_saved(tmp_path: Path) -> None:
    sample = {"x": np.random.default_rng(0).normal(0, 1, (1, 3, 16, 16)).astype(np.float32)}
    model = axforge.compile(save(classifier(), tmp_path), [sample], threads=1)
    assert "on aipu-host" in repr(model)
    assert Model(model.save(tmp_path / "out" / "net.axmodel")).run(sample)["y"].tolist() == model.run(sample)["y"].tolist()
    with pytest.raises(AxforgeError, match="cannot be written"):
        model.save(tmp_path / "out" / "net.axmodel" / "x.axmodel")
    with pytest.raises(AxforgeError, match="takes no pictures"):
        model(photo())
    kept = axforge.compile(tmp_path / "model.onnx", [sample], workdir=tmp_path / "kept")
    assert (tmp_path / "kept" / "model.axmodel").read_bytes() == (tmp_path / "out" / "net.axmodel").read_bytes()
    shutil.rmtree(tmp_path / "kept")
    assert kept.run(sample)["y"].shape == (1, 5)


def test_importing_axforge_loads_nothing_heavy() -> None:
    check = "import sys, axforge; assert 'Model' in dir(axforge); print(sorted({'numpy', 'msgspec', 'onnx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'Modell'"):
        axforge.Modell  # type: ignore[attr-defined]  # noqa: B018
