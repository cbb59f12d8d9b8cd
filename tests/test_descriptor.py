"""model.json: the published example is accepted as it is, and every mistake is named with its place and the nearest known name."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from axforge import ax_models
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.descriptor import (
    load_descriptor,
    parse_descriptor,
    preprocessing_fingerprint,
    stage_options,
)
from axforge.axruntime.pipeline.documents import PAGE, page_text, schema_text
from axforge.axruntime.pipeline.models import find_model, model_names
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.postprocessing.yolov5 import DecodeYolov5
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize

ZOO = Path(ax_models.__file__).parent
MINIMAL: dict[str, Any] = {"name": "net", "preprocessing": [{"type": "resize", "width": 8, "height": 8}]}


def parse(**changes: Any) -> Any:
    return parse_descriptor(json.dumps(MINIMAL | changes).encode(), "model.json")


def test_the_published_example_is_accepted_as_it_is(shared: Path) -> None:
    descriptor = load_descriptor(shared / "figures" / "model_formats_example.json")
    assert descriptor.preprocessing == (
        Resize(width=640, height=640, letterbox=True),
        Normalize(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    )
    assert descriptor.postprocessing == (DecodeYolov5(classes=80, confidence_threshold=0.25), Nms(iou_threshold=0.45))
    assert descriptor.model == "yolov5s-v7-coco/1/model.axmodel"


@pytest.mark.parametrize(
    ("changes", "where", "fix"),
    [
        ({"postprocessing": [{"type": "topk"}, {"type": "nmss"}]}, "model.json: postprocessing[1].type", "'nms'"),
        ({"preprocessing": [{"type": "letterboxx"}]}, "model.json: preprocessing[0].type", "resize"),
        ({"preprocessing": [{"type": "resize", "widht": 3, "height": 3}]}, "model.json: preprocessing[0].widht", "'width'"),
        ({"postprocessing": [{"type": "nms", "iou": 0.5}]}, "model.json: postprocessing[0].iou", "'iou_threshold'"),
        ({"preprocesing": []}, "model.json: preprocesing", "'preprocessing'"),
        ({"source": {"fil": "x"}}, "model.json: source.fil", "'file'"),
        ({"dataset": {"type": "yolo", "pth": "x"}}, "model.json: dataset.pth", "'path'"),
        ({"dataset": {"type": "yol", "path": "x"}}, "model.json: dataset.type", "'yolo'"),
        ({"compile": {"quantise": {}}}, "model.json: compile", "'quantize'"),
        ({"compile": {"quantize": {"schem": "mse"}}}, "model.json: compile.quantize", "'scheme'"),
        ({"preprocessing": [{"typ": "resize"}]}, "model.json: preprocessing[0]", "Add"),
    ],
)
def test_unknown_names_are_answered_with_place_and_nearest_name(changes: dict[str, Any], where: str, fix: str) -> None:
    with pytest.raises(AxforgeError) as caught:
        parse(**changes)
    assert caught.value.where == where
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"name": 3}, "model.json: name", "expected `str`, got `int`"),
        ({"name": "../up"}, "model.json: name", "matching"),
        ({"postprocessing": [{"type": "nms", "iou_threshold": "x"}]}, "model.json: postprocessing[0].iou_threshold", "`float`"),
        ({"postprocessing": [{"type": "nms", "iou_threshold": 2}]}, "model.json: postprocessing[0].iou_threshold", "<= 1"),
        ({"preprocessing": [{"type": "resize", "width": 3}]}, "model.json: preprocessing[0]", "`width` and `height`"),
        ({"preprocessing": [{"type": "resize", "size": 3, "letterbox": True}]}, "model.json: preprocessing[0]", "letterbox"),
        ({"preprocessing": [{"type": "normalize", "std": [1, 0, 1]}]}, "model.json: preprocessing[0]", "`std`"),
        ({"source": {"file": "a", "url": "http://a"}}, "model.json: source", "exactly one"),
        ({"source": {"url": "http://a/b.onnx"}}, "model.json: source", "sha256"),
        ({"source": {"builder": "os"}}, "model.json: source.builder", "matching"),
        ({"compile": {"tile": {"cores": "x"}}}, "model.json: compile.tile.cores", "`int`"),
        ({"compile": {"check": {"input_shapes": {"x": ["a"]}}}}, "model.json: compile.check.input_shapes[...][0]", "`int`"),
    ],
)
def test_wrong_values_are_named_with_their_place(changes: dict[str, Any], where: str, what: str) -> None:
    with pytest.raises(AxforgeError) as caught:
        parse(**changes)
    assert caught.value.where == where
    assert what in caught.value.what


@pytest.mark.parametrize("data", [b"", b"{", b'{"name": 3, "task" "x"}', b'{"name": "\xff"}', b"[]", b"null"])
def test_what_is_no_descriptor_is_refused_with_a_sentence(data: bytes) -> None:
    with pytest.raises(AxforgeError) as caught:
        parse_descriptor(data, "model.json")
    assert caught.value.where.startswith("model.json")


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(MINIMAL | {"labels": "names.txt"}))
    with pytest.raises(AxforgeError, match=r"no label file 'names\.txt'"):
        load_descriptor(tmp_path / "model.json")
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(AxforgeError, match="labels cannot be read"):
        load_descriptor(tmp_path / "model.json")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert load_descriptor(tmp_path / "model.json").label_names == ("cat", "dog")


def test_stage_options_have_the_types_of_the_stage() -> None:
    descriptor = parse(compile={"check": {"input_shapes": {"x": [1, 3, 8, 8]}}, "quantize": {"scheme": "minmax"}})
    assert stage_options(descriptor, "check") == {"input_shapes": {"x": (1, 3, 8, 8)}}
    assert stage_options(descriptor, "quantize") == {"scheme": "minmax"}
    assert stage_options(descriptor, "tile") == {}


def test_the_nearest_model_is_suggested() -> None:
    assert find_model("yolox_nano", [ZOO]) == ZOO / "yolox_nano" / "model.json"
    with pytest.raises(AxforgeError, match="yolov5s-v7-coco"):
        find_model("yolov5s-v7-cocoo", [ZOO])


@pytest.mark.parametrize("name", ["", ".", "..", "../ax_models/yolox_nano", "a/b"])
def test_a_model_name_is_never_a_path(name: str) -> None:
    with pytest.raises(AxforgeError):
        find_model(name, [ZOO])


def test_the_first_root_wins_and_missing_roots_do_no_harm(tmp_path: Path) -> None:
    mine = tmp_path / "yolox_nano" / "model.json"
    mine.parent.mkdir()
    mine.write_text("{}")
    assert find_model("yolox_nano", [tmp_path / "absent", tmp_path, ZOO]) == mine
    assert model_names([tmp_path / "absent", tmp_path]) == ["yolox_nano"]


def test_the_fingerprint_knows_defaults_and_nothing_but_preprocessing() -> None:
    base = preprocessing_fingerprint(parse())
    spelled = parse(
        preprocessing=[{"height": 8, "width": 8, "interpolation": "bilinear", "type": "resize"}], postprocessing=[{"type": "topk"}]
    )
    assert preprocessing_fingerprint(spelled) == base
    other = parse(preprocessing=[{"type": "resize", "width": 8, "height": 8, "interpolation": "area"}])
    assert preprocessing_fingerprint(other) != base


def test_the_shipped_schema_is_not_stale() -> None:
    fix = "python -m axforge.axruntime.pipeline.documents"
    assert (ZOO / "model.schema.json").read_text() == schema_text(), fix


def test_the_schema_names_every_step_and_key() -> None:
    schema = json.loads(schema_text())
    tags = {d["properties"]["type"]["enum"][0] for d in schema["$defs"].values() if "enum" in d.get("properties", {}).get("type", {})}
    assert {"resize", "normalize", "topk", "decode_yolov5", "nms", "super_resolution"} <= tags
    assert {"preprocessing", "postprocessing", "source", "$schema"} <= set(schema["$defs"]["Descriptor"]["properties"])


def test_reading_a_descriptor_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path; from axforge import ax_models;"
        "from axforge.axruntime.pipeline.descriptor import load_descriptor;"
        "from axforge.axruntime.pipeline.models import find_model;"
        "from axforge.axruntime.pipeline.calibration import calibration_samples;"
        "d = load_descriptor(find_model('efficientnet_lite0-imagenet', [Path(ax_models.__file__).parent]));"
        "assert calibration_samples(d, None, 4);"
        "print(sorted({'numpy', 'onnx', 'onnxruntime', 'cv2', 'PIL', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_documentation_names_every_step_and_parameter() -> None:
    text = (ZOO.resolve().parent / "docs" / "models.md").read_text(encoding="utf-8")
    definitions = json.loads(schema_text())["$defs"].values()
    named = {tag for d in definitions for tag in d.get("properties", {}).get("type", {}).get("enum", [])}
    keys = {key for d in definitions for key in d.get("properties", {}) if key != "type"}
    assert sorted(name for name in named | keys if f"`{name}`" not in text) == []


def test_the_tables_of_steps_in_the_documentation_are_not_stale() -> None:
    text = (ZOO.resolve().parent / PAGE).read_text(encoding="utf-8")
    assert page_text(text) == text, "python -m axforge.axruntime.pipeline.documents"
    assert page_text(text.replace("| `nms` |", "| `old` |")) == text, "the tables are where the generator looks for them"


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 100_000, '{"name": "m", "compile": {"a": {"b": ' + "[" * 100_000], ids=["lists", "objects", "inside"]
)
def test_json_without_end_of_nesting_is_refused(text):
    with pytest.raises(AxforgeError, match=r"nested too deeply|invalid JSON"):
        parse_descriptor(text.encode(), "model.json")


@pytest.mark.parametrize("bins", [0, -1, 1, 2**40])
def test_a_number_of_bins_that_no_histogram_has_is_refused(bins):
    with pytest.raises(AxforgeError, match=f"cannot have {bins} bins"):
        parse(compile={"calibrate": {"bins": bins}})
