"""Compile, run and measure a tiny model with the real stages and engines, through doit."""

import json
import shutil
import signal
import subprocess
import time

import cv2
import numpy as np
import pytest
from tasks_support import Project, answer, write_picture


@pytest.fixture
def measured(project: Project) -> Project:
    """A project with a small labelled dataset."""
    folder = project.root / "validation"
    folder.mkdir()
    for i in range(24):
        write_picture(folder / f"v{i:02}.png", 100 + i)
    (folder / "labels.txt").write_text("".join(f"v{i:02}.png {i % 5}\n" for i in range(24)))
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


def test_the_time_of_each_step_and_the_delays_are_shown(project: Project) -> None:
    done = project.doit("infer:tiny:fakevideo:40x30", "--pipe", "onnx", "--frames", "5", "--show-stats", "--show-stream-timing")
    assert done.status == 0, done.out + done.err
    for words in ("Time per step", "pre-process", "draw and write", "the bottleneck is", "Stream timing", "latency", "Jitter"):
        assert words in done.out


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
    labels.write_text("".join(f"v{i:02}.png {best}\n" for i, best in enumerate(truth)))
    done = measured.doit("accuracy:tiny", "--pipe", "reference")
    assert done.status == 1, done.out + done.err
    assert "tiny: FAILED" in done.out
    assert "100.00 % in fp32" in done.out


def test_two_images_prove_nothing(measured: Project) -> None:
    done = measured.doit("accuracy:tiny", "--pipe", "reference", "--frames", "2")
    assert done.status == 0, done.out + done.err
    assert "tiny: undecided" in done.out
    assert "2 images prove nothing" in done.out
    document = json.loads((measured.built.parent / "results" / "accuracy-reference.json").read_text())
    assert (document["verdict"], document["passed"]) == ("undecided", False)
    low, high = document["compiled"]["intervals"]["top-1"]
    assert low <= document["compiled"]["value"] <= high
    assert high - low > 50


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


def test_a_bad_picture_is_named_skipped_and_counted_and_strict_stops(project: Project) -> None:
    (project.pictures / "bad.png").write_bytes(b"broken")
    done = project.doit("infer:tiny:pictures", "--pipe", "onnx", "--save-output", "out")
    assert done.status == 0, done.out + done.err
    assert "bad.png is skipped: the picture is damaged" in done.err
    assert "4 frames on onnx" in done.out
    assert "1 skipped" in done.out
    document = json.loads((project.root / "out" / "pictures.json").read_text())
    assert (len(document["frames"]), [row["source"] for row in document["skipped"]]) == (4, ["bad.png"])
    done = project.doit("infer:tiny:pictures", "--pipe", "onnx", "--strict")
    assert done.status == 1
    assert "bad.png: the picture is damaged" in done.err


def test_results_of_two_sources_and_two_engines_stay_side_by_side(project: Project) -> None:
    (project.root / "other").mkdir()
    write_picture(project.root / "other" / "img_0.png", 7)
    for words in (("pictures/img_0.png", "pipe=onnx"), ("other/img_0.png", "pipe=onnx"), ("pictures/img_0.png", "pipe=reference")):
        done = project.doit(f"infer:tiny:{words[0]}", words[1], "save=out")
        assert done.status == 0, done.out + done.err
    assert "out/img_0-reference.json" in done.out
    written = sorted(path.name for path in (project.root / "out").glob("*.json"))
    assert written == ["img_0-2.json", "img_0-reference.json", "img_0.json"]


def test_a_name_that_nobody_writes_is_refused_before_anything_is_compiled(project: Project) -> None:
    done = project.doit("infer:tiny:pictures/img_0.png", "--save-output", "out.xyz")
    assert done.status == 1
    assert "results cannot be written as '.xyz'" in done.err
    assert "compile" not in done.out


def test_one_pixel_is_a_picture(project: Project) -> None:
    cv2.imwrite(str(project.root / "dot.png"), np.full((1, 1, 3), 128, np.uint8))
    done = project.doit("infer:tiny:dot.png", "--pipe", "onnx")
    assert done.status == 0, done.out + done.err


@pytest.mark.parametrize(("number", "status", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_run_that_is_stopped_keeps_what_was_done(project: Project, number: int, status: int, name: str) -> None:
    command = project.command("infer:tiny:fakevideo:64x48", "pipe=onnx", "frames=1000000", "save=out/r.jsonl")
    with subprocess.Popen(
        command, cwd=project.root, env=project.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(600):
            time.sleep(0.1)
            if (project.root / "out" / "r.jsonl").exists():
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == status, out + err
    assert "Traceback" not in err
    frames = len([json.loads(line) for line in (project.root / "out" / "r.jsonl").read_text().splitlines()])
    assert f"Stopped by {name} after {frames} frame" in err
    assert f"{frames} frame" in out


def test_nobody_need_read_to_the_end(project: Project) -> None:
    words = " ".join(project.command("infer:tiny:pictures", "pipe=onnx", "save=out"))
    for shell in (f"{words} | head -n 1", f"{words} >&-"):
        done = answer(["bash", "-c", f"set -o pipefail; {shell}"], project.root, project.env())
        assert "Traceback" not in done.err
        assert done.status == 0, done.out + done.err
        assert len(json.loads((project.root / "out" / "pictures.json").read_text())["frames"]) == 4
        shutil.rmtree(project.root / "out")
