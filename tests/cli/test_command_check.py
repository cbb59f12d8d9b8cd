"""`axforge check`, and the part of it that runs before every compilation."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tasks_support import Answer, Project

Axforge = Callable[..., Answer]


def test_a_good_model_has_no_mistakes(axforge: Axforge, project: Project) -> None:
    done = axforge("check", "tiny", cwd=project.root)
    assert done.status == 0, done.err
    assert "no mistakes found" in done.out


def test_all_mistakes_are_found_in_one_go(axforge: Axforge, project: Project) -> None:
    post = [{"type": "decode_yolov8", "classes": 7}]
    project.describe(name="other", postprocessing=post, calibration={"path": "pictures", "count": 9})
    text = project.descriptor.read_text()
    project.descriptor.write_text(
        text.replace('"task":', '"license": "a",\n "license": "b",\n "task":').replace('"classification"', '"detection"')
    )
    done = axforge("check", "tiny", cwd=project.root, AXFORGE_MODELS="no-such-folder")
    assert done.status == 1
    for words in ("'license' is in model.json twice", "reads 7 classes, and there are 5 labels", "'other'", "9 pictures", "no-such-folder"):
        assert words in done.out


def test_a_decoder_that_does_not_fit_the_network(axforge: Axforge, project: Project) -> None:
    project.describe(postprocessing=[{"type": "decode_yolov8", "classes": 5}], task="detection")
    done = axforge("check", "tiny", cwd=project.root)
    assert done.status == 1
    assert "decode_yolov8: the network's output has shape [1, 5]" in done.out


def test_labels_and_pictures_that_do_not_fit_the_network(axforge: Axforge, project: Project) -> None:
    project.describe(labels=["ant", "bee"])
    assert "tells 5 classes apart, and there are 2 labels" in axforge("check", "tiny", cwd=project.root).out
    project.describe(labels=None, preprocessing=[{"type": "resize", "width": 20, "height": 16}, {"type": "normalize"}])
    assert "gives [1, 3, 16, 20], and the network's input image takes [1, 3, 16, 16]" in axforge("check", "tiny", cwd=project.root).out


def test_a_compilation_begins_with_the_mistakes_of_model_json(project: Project) -> None:
    project.fake_stages()
    text = project.descriptor.read_text()
    project.descriptor.write_text(text.replace('"task":', '"license": "a",\n "license": "b",\n "task":'))
    done = project.doit("compile:tiny")
    assert done.status == 1
    assert "twice" in done.err
    assert not (project.root / "ran.log").exists()


def test_what_the_aipu_lacks_is_listed_with_its_size(axforge: Axforge, tmp_path: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Flatten", ["c"], ["f"], name="flat"),
        helper.make_node("TopK", ["f", "k"], ["values", "indices"], name="top"),
    ]
    k = numpy_helper.from_array(np.array([5], np.int64), "k")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [1, 3, 8, 8])], [value("values", TensorProto.FLOAT, [1, 5])], [weights, k]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "top.onnx")
    done = axforge("check", str(tmp_path / "top.onnx"))
    assert "TopK" in done.out, done.err
    assert "CPU, after the network" in done.out


def test_the_first_example_of_the_page_works_from_a_folder_of_ones_own(axforge: Axforge, project: Project, tmp_path: Path) -> None:
    """Verbatim, with a network that is too small for it: all that is wrong is then the network."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    example = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert example is not None
    home = tmp_path / "home"
    (home / "models" / "my-detector").mkdir(parents=True)
    (home / "models" / "my-detector" / "model.json").write_text(example[1])
    (home / "models" / "my-detector.onnx").write_bytes(project.onnx.read_bytes())
    shutil.copytree(project.pictures, home / "data" / "my-photos")
    done = axforge("check", "my-detector", cwd=home)
    errors = [line for line in done.out.splitlines() if "error:" in line]
    assert len(errors) == 1, done.out + done.err
    assert "gives [1, 3, 640, 640], and the network's input image takes [1, 3, 16, 16]" in errors[0]
