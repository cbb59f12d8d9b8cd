"""`axforge zoo`: the table of published networks, and models of one's own made like known ones."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tasks_support import Answer, Project

Axforge = Callable[..., Answer]


def test_networks_are_found_by_task_licence_and_size(axforge: Axforge) -> None:
    done = axforge("zoo", "list", "resnet", "--license", "bsd", "--max-parameters", "30", "--ready")
    names = [line.split()[0] for line in done.out.splitlines() if "-imagenet" in line]
    assert names == ["resnet18-imagenet-onnx", "resnet34-imagenet-onnx", "resnet50-imagenet-onnx"]
    poses = json.loads(axforge("zoo", "list", "--task", "pose", "--json").out)
    assert {network["task"] for network in poses} == {"pose"}
    assert any(network["obstacles"] for network in poses)


def test_what_cannot_be_compiled_is_listed_with_the_reason(axforge: Axforge) -> None:
    assert "Several networks in one pipeline" not in axforge("zoo", "list").out
    assert "yolov8n-yolov8s: Several networks in one pipeline" in axforge("zoo", "list", "--all").out


def test_a_network_is_shown_with_its_facts(axforge: Axforge) -> None:
    shown = axforge("zoo", "show", "yolov8l-coco").out
    assert "AGPL-3.0" in shown
    assert "yolov8l-coco-onnx is the same network as ONNX" in shown
    made = json.loads(axforge("zoo", "show", "yolov8l-coco", "--model-json").out)
    assert "source" not in made
    assert made["postprocessing"][0]["type"] == "decode_yolov8"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("list", "--task", "posee"), 1, "Did you mean 'pose'"),
        (("list", "--max-parameters", "nan"), 2, "number of millions"),
        (("show", "resnet18-imagenet-onn"), 1, "resnet18-imagenet-onnx"),
        (("show", "../../etc/passwd"), 1, "no network"),
        (("fetch", "yolov8l-coco"), 1, "PyTorch checkpoint"),
        (("fetch", "yolov10n-coco-onnx"), 1, "No address"),
        (("fetch", "yolov8n-yolov8s"), 1, "Several networks"),
        (("check", "nothing-like-that"), 1, "no network"),
        (("add", "none.onnx", "--like", "yolov8n-coco"), 1, "none.onnx"),
        (("add", "none.onnx", "--like", "yolov8n-coco", "--try"), 2, "give one of them"),
        (("import", "none.yaml"), 1, "no such file"),
        (("import", "."), 1, "not a file"),
        (("lisst",), 2, "unrecognized"),
    ],
)
def test_mistakes_get_a_sentence(axforge: Axforge, words: tuple[str, ...], status: int, said: str) -> None:
    done = axforge("zoo", *words)
    assert done.status == status, done.out + done.err
    assert said in done.err
    assert "Traceback" not in done.err


def test_descriptors_are_checked_and_files_that_are_here_are_compared(axforge: Axforge, tmp_path: Path) -> None:
    assert "files checked: no problems" in axforge("zoo", "check", "resnet18-imagenet-onnx").out
    root = tmp_path / "data"
    (root / "models").mkdir(parents=True)
    (root / "models" / "resnet18_pretrained.onnx").write_bytes(b"another file")
    done = axforge("zoo", "check", "resnet18-imagenet-onnx", "--data-root", str(root))
    assert done.status == 1
    assert "has the MD5" in done.out
    assert "1 descriptors and 1 files checked: 1 problem." in done.out
    shown = axforge("zoo", "show", "resnet18-imagenet-onnx", "--data-root", str(root)).out
    assert hashlib.sha256(b"another file").hexdigest() in shown


def test_all_descriptors_of_the_table_are_sound(axforge: Axforge) -> None:
    done = axforge("zoo", "check")
    assert done.status == 0, done.out


def test_a_model_is_added_like_another_and_runs(axforge: Axforge, project: Project) -> None:
    done = axforge("zoo", "add", "tiny.onnx", "--like", "resnet18-imagenet-onnx", "--name", "mine", cwd=project.root)
    assert done.status == 0, done.out + done.err
    written = json.loads((project.root / "models" / "mine" / "model.json").read_text())
    assert written["preprocessing"][1] == {"type": "centercrop", "width": 16, "height": 16}
    assert "number" in done.out
    again = axforge("zoo", "add", "tiny.onnx", "--like", "resnet18-imagenet-onnx", "--name", "mine", cwd=project.root)
    assert again.status == 1
    assert "--force" in again.err
    checked = axforge("check", "mine", cwd=project.root)
    assert checked.status == 0, checked.out + checked.err


def test_a_network_of_the_vendors_sdk_is_imported(axforge: Axforge, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    (folder / "net.yaml").write_text(
        "pipeline:\n- n: {preprocess: [{resize: {width: 8, height: 8}}, {magic: }], postprocess: [{topk: {k: 2}}]}\n"
        "models:\n  n: {input_tensor_shape: [1, 3, 8, 8]}\n"
    )
    done = axforge("zoo", "import", "net.yaml")
    assert done.status == 0, done.out + done.err
    assert "not mapped" in done.out
    assert json.loads((folder / "models" / "n" / "model.json").read_text())["postprocessing"] == [{"type": "topk", "k": 2}]
