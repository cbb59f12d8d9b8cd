"""A model that runs another one: both are compiled, by one command, and the compiled folder carries both."""

import json

import pytest
from tasks_support import Project

from axforge.axruntime.model import Model
from axforge.axruntime.results.detections import Detections

FINDER = {
    "task": "detection",
    "preprocessing": [{"type": "resize", "width": 16, "height": 16}, {"type": "normalize"}],
    "postprocessing": [
        {"type": "decode_yolov8", "classes": 2, "confidence_threshold": 0.0},
        {"type": "nms"},
        {"type": "run_model", "model": "tiny", "max_regions": 2},
    ],
    "labels": ["left", "right"],
}


@pytest.fixture
def cascade(project: Project) -> Project:
    """The project with a second model, `finder`, that runs `tiny`."""
    import onnx
    from deployed_models import detector

    onnx.save(detector(), project.root / "finder.onnx")
    folder = project.root / "models" / "finder"
    folder.mkdir()
    same = {key: value for key, value in json.loads(project.descriptor.read_text()).items() if key in ("calibration",)}
    (folder / "model.json").write_text(json.dumps({"name": "finder", "source": {"file": "finder.onnx"}, **same, **FINDER}))
    return project


def test_both_are_compiled_and_a_change_of_the_second_reaches_the_first(cascade: Project) -> None:
    picture = next(path for path in sorted(cascade.pictures.iterdir()))
    done = cascade.doit("infer:finder:" + str(picture), "--pipe", "reference")
    assert done.status == 0, done.out + done.err
    assert "tiny" in done.out
    folder = cascade.root / "build" / "finder" / "finder" / "1"
    before = (folder / "tiny.zip").read_bytes()
    with Model(folder, engine="reference") as model:
        found = model(str(picture))
        assert isinstance(found, Detections)
        assert sum(result is not None for result in found.parts["tiny"]) == 2
    cascade.describe(labels=["ant", "bee", "cat", "dog", "emu"])
    done = cascade.doit("compile:finder")
    assert done.status == 0, done.out + done.err
    assert (folder / "tiny.zip").read_bytes() != before
    assert not list(folder.glob("*.edited*"))
    floats = cascade.doit("infer:finder:" + str(picture), "--pipe", "onnx")
    assert floats.status == 0, floats.out + floats.err


def test_what_does_not_exist_or_runs_itself_is_refused(cascade: Project) -> None:
    path = cascade.root / "models" / "finder" / "model.json"
    text = path.read_text()
    path.write_text(text.replace('"model": "tiny"', '"model": "tinny"'))
    done = cascade.doit("compile:finder")
    assert done.status != 0
    assert "'tinny'" in done.err
    assert "'tiny'" in done.err
    path.write_text(text.replace('"model": "tiny"', '"model": "finder"'))
    done = cascade.doit("compile:finder")
    assert done.status != 0
    assert "finder runs finder" in done.err
