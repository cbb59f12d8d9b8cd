"""Compile, run and measure a tiny model with the real stages and engines, through doit."""

import json

import cv2
import numpy as np
import pytest
from tasks_support import Project, write_picture


@pytest.fixture
def measured(project: Project) -> Project:
    """A project with a small labelled dataset."""
    folder = project.root / "validation"
    folder.mkdir()
    for i in range(6):
        write_picture(folder / f"v{i}.png", 100 + i)
    (folder / "labels.txt").write_text("".join(f"v{i}.png {i % 5}\n" for i in range(6)))
    project.describe(dataset={"type": "image-folder", "path": "validation", "max_loss": 100})
    return project


def test_infer_compiles_first_then_writes_picture_table_and_json(project: Project) -> None:
    done = project.doit("infer:tiny:pictures/img_0.png", "--pipe", "sim")
    assert done.status == 0, done.out + done.err
    assert done.out.index("compile:tiny:pack: ran") < done.out.index("Running pipeline...")
    results = project.built.parent / "results"
    document = json.loads((results / "img_0.json").read_text())
    classes = document["frames"][0]["result"]["classes"]
    assert len(classes) == 3
    assert f"{classes[0]['label']}" in done.out
    assert cv2.imread(str(results / "img_0.png")) is not None


@pytest.mark.parametrize("pipe", ["sim", "reference", "aipu-host"])
def test_engines_give_the_same_answer(project: Project, pipe: str) -> None:
    done = project.doit("infer:tiny:pictures", "--pipe", pipe, "--save-output", "out", cwd=project.root)
    assert done.status == 0, done.out + done.err
    frames = json.loads((project.root / "out" / "pictures.json").read_text())["frames"]
    scores = np.array([[c["score"] for c in f["result"]["classes"]] for f in frames])
    assert scores.shape == (4, 3)
    project.doit("infer:tiny:pictures", "--pipe", "onnx", "--save-output", "fp32")
    floats = json.loads((project.root / "fp32" / "pictures.json").read_text())["frames"]
    wanted = np.array([[c["score"] for c in f["result"]["classes"]] for f in floats])
    np.testing.assert_allclose(scores, wanted, atol=0.05)
    assert len(list((project.root / "out" / "pictures").glob("*.png"))) == 4


def test_a_list_of_pictures_becomes_a_table(project: Project) -> None:
    (project.root / "some.txt").write_text("pictures/img_2.png\npictures/img_0.png\n")
    done = project.doit("infer:tiny:some.txt", "--pipe", "onnx", "--save-output", "out/found.csv")
    assert done.status == 0, done.out + done.err
    lines = (project.root / "out" / "found.csv").read_text().splitlines()
    assert lines[0] == "frame,source,class,score"
    assert [line.split(",")[1] for line in lines[1:]] == ["img_2.png"] * 3 + ["img_0.png"] * 3
    assert sorted(path.name for path in (project.root / "out").iterdir()) == ["found.csv", "found.json"]


def test_pictures_of_one_stem_do_not_overwrite_each_other(project: Project) -> None:
    folder = project.root / "alike"
    folder.mkdir()
    for seed, name in enumerate(("a b.png", "a_b.png", "a_b.jpg")):
        write_picture(folder / name, seed)
    done = project.doit("infer:tiny:alike", "--pipe", "onnx", "--save-output", "out")
    assert done.status == 0, done.out + done.err
    assert sorted(path.name for path in (project.root / "out" / "alike").iterdir()) == ["a_b-2.png", "a_b-3.png", "a_b.png"]


def test_a_path_is_relative_to_where_it_is_typed(project: Project) -> None:
    done = project.doit("-f", "../dodo.py", "infer:tiny:img_1.png", "--pipe", "onnx", "--save-output", "x.png", cwd=project.pictures)
    assert done.status == 0, done.out + done.err
    assert (project.pictures / "x.png").is_file()


def test_a_source_with_an_equals_sign_works_alone(project: Project) -> None:
    (project.pictures / "img_0.png").rename(project.root / "a=b.png")
    done = project.doit("infer:tiny:a=b.png", "pipe=onnx")
    assert done.status == 0, done.out + done.err
    assert "a=b.png" in done.out


def test_fakevideo_stops_after_the_frames_asked_for(project: Project) -> None:
    done = project.doit("infer:tiny:fakevideo:64x48", "--pipe", "onnx", "--frames", "3")
    assert done.status == 0, done.out + done.err
    assert "3 frames" in done.out


def test_one_file_for_two_sources_is_refused(project: Project) -> None:
    done = project.doit("infer:tiny:pictures/img_0.png", "infer:tiny:pictures/img_1.png", "save=x.png", "pipe=onnx")
    assert done.status == 1
    assert "Name a folder" in done.err


def test_accuracy_prints_both_models_the_loss_and_a_verdict(measured: Project) -> None:
    done = measured.doit("accuracy:tiny", "--pipe", "reference")
    assert done.status == 0, done.out + done.err
    assert "fp32" in done.out
    assert "images/s" in done.out
    assert "tiny: passed" in done.out
    document = json.loads((measured.built.parent / "results" / "accuracy-reference.json").read_text())
    assert document["passed"]
    assert document["loss"] == document["fp32"]["metrics"]["top-1"] - document["compiled"]["metrics"]["top-1"]


def test_a_loss_above_what_model_json_allows_is_status_1(measured: Project) -> None:
    document = json.loads(measured.descriptor.read_text())
    document["dataset"]["max_loss"] = 1
    measured.descriptor.write_text(json.dumps(document))
    for path in measured.pictures.iterdir():  # calibrated on grey alone, it clips everything else
        cv2.imwrite(str(path), np.full((16, 16, 3), 128, np.uint8))
    done = measured.doit("infer:tiny:validation", "--pipe", "onnx", "--save-output", "fp32")
    frames = json.loads((measured.root / "fp32" / "validation.json").read_text())["frames"]
    truth = [frame["result"]["classes"][0]["class_id"] for frame in frames]
    labels = measured.root / "validation" / "labels.txt"
    labels.write_text("".join(f"v{i}.png {best}\n" for i, best in enumerate(truth)))
    done = measured.doit("accuracy:tiny", "--pipe", "reference")
    assert done.status == 1, done.out + done.err
    assert "tiny: FAILED" in done.out
    assert "100.00 % in fp32" in done.out


def test_accuracy_of_all_skips_what_has_no_data_and_says_why(project: Project) -> None:
    done = project.doit("accuracy", AXFORGE_DATA_ROOT=str(project.root))
    assert done.status == 0, done.out + done.err
    assert "tiny: skipped, its model.json names no dataset" in done.out
    assert "efficientnet_lite0-imagenet: skipped, its data set" in done.out


@pytest.mark.parametrize("source", ["rtsp://admin:hunter2@127.0.0.1:1/cam", "rtsp://admin:hunt@er2@127.0.0.1:1/cam?password=hunter2"])
def test_credentials_of_a_camera_reach_no_screen_and_no_file(project: Project, source: str) -> None:
    done = project.doit(f"infer:tiny:{source}", "pipe=onnx", "frames=1")
    assert done.status == 1
    assert "Traceback" not in done.err
    assert "127.0.0.1:1/cam" in done.err
    assert "er2" not in done.out + done.err
    written = [path for path in project.root.parent.rglob("*") if path.is_file()]
    assert [path for path in written if b"er2" in path.read_bytes()] == []


def test_doit_remembers_no_run(project: Project) -> None:
    done = project.doit("infer:tiny:pictures/img_0.png", "--pipe", "onnx")
    assert done.status == 0, done.out + done.err
    assert "infer:tiny" not in project.doit("dumpdb").out
