"""Network YAML files of the vendor's SDK: what is mapped, what is said not to be, and files made to do harm."""

import os
from pathlib import Path

import numpy as np
import pytest

from axforge import ax_models
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.chain import prepare
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.propose.proposal import Proposal
from axforge.axruntime.propose.voyager import file as module
from axforge.axruntime.propose.voyager.file import read_yaml
from axforge.axruntime.propose.voyager.network import imported
from axforge.axruntime.propose.writing import document

LABELS = [Path(ax_models.__file__).parent / "labels"]

MEAN, STD = np.array([0.5, 0.4, 0.3]), np.array([0.1, 0.2, 0.4])
DETECTOR = """\
axelera-model-format: 1.0.0
name: my-net
description: a detector
pipeline:
  - detections:
      model_name: my-yolov8n
      preprocess:
        - letterbox: {height: "${{input_height}}", width: "${{input_width}}", scaleup: true}
        - torch-totensor:
      postprocess:
        - decodeyolo:
            conf_threshold: 0.3
            nms_iou_threshold: 0.5
            nms_top_k: 200
            label_filter: ${{label_filter}}
            use_multi_label: false
        - magic: {power: 9}
models:
  my-yolov8n:
    class_path: /tmp/evil.py
    weight_url: https://example.com/w/yolov8n.onnx
    weight_md5: 2ec6c50f5cb0e059344f4ea7f72a3c41
    input_tensor_layout: NCHW
    input_tensor_shape: [1, 3, 480, 640]
    input_color_format: RGB
    num_classes: 80
    dataset: D
    extra_kwargs: {compilation_config: {tiling_depth: 6, quantization_config: {ptq_scheme: per_tensor_histogram}}}
datasets:
  D: {labels_path: $AXELERA_FRAMEWORK/ax_datasets/labels/coco.names}
"""


def read(tmp_path: Path, text: str, network: str = "") -> Proposal:
    """The proposal for a file with this text; its model.json is read back by every check."""
    (tmp_path / "net.yaml").write_text(text)
    proposal = imported(tmp_path / "net.yaml", LABELS, network=network)
    document(proposal.descriptor)
    return proposal


def lost(proposal: Proposal) -> list[str]:
    """What could not be mapped."""
    return [choice.what for choice in proposal.choices if choice.value == "not mapped"]


def with_steps(pre: str, post: str = "[topk: {k: 3}]", shape: str = "[1, 3, 32, 32]", more: str = "") -> str:
    """A file with these operators."""
    return f"pipeline:\n- n: {{preprocess: {pre}, postprocess: {post}}}\nmodels:\n  n: {{input_tensor_shape: {shape}{more}}}\n"


def test_a_detector_is_mapped_and_the_rest_is_said(tmp_path: Path) -> None:
    proposal = read(tmp_path, DETECTOR)
    found = proposal.descriptor
    assert found.name == "my-yolov8n"
    assert found.source is not None
    assert found.source.md5 == "2ec6c50f5cb0e059344f4ea7f72a3c41"
    assert [step.tag() for step in found.preprocessing] == ["resize", "normalize"]
    assert [step.tag() for step in found.postprocessing] == ["decode_yolov8", "nms"]
    assert found.labels == "coco.txt"
    assert found.compile == {"quantize": {"scheme": "mse"}}
    assert lost(proposal) == ["magic", "extra_kwargs.tiling_depth", "calibration"]
    decoder = proposal.choice("decoder")
    assert decoder is not None
    assert decoder.sure == "guess"  # the file names no kind of head


@pytest.mark.parametrize(
    ("pre", "formula"),
    [
        ("[{torch-totensor: }]", lambda x: x / 255),
        ("[{torch-totensor: {scale: false}}]", lambda x: x),
        ("[{torch-totensor: {scale: false}}, {linear-scaling: {mean: 127.5, shift: -1}}]", lambda x: x / 127.5 - 1),
        ("[{torch-totensor: {scale: false}}, {linear-scaling: {scale: 0.5, shift: 3}}]", lambda x: x * 0.5 + 3),
        ("[{torch-totensor: }, {normalize: {mean: '0.5, 0.4, 0.3', std: [0.1, 0.2, 0.4]}}]", lambda x: (x / 255 - MEAN) / STD),
        ("[{normalize: {mean: 10, std: 4}}, {linear-scaling: {mean: 2, shift: '1, 2, 3'}}]", lambda x: (x - 10) / 4 / 2 + [1, 2, 3]),
    ],
)  # fmt: skip
def test_values_are_those_of_the_operators_one_after_another(tmp_path: Path, pre: str, formula: object) -> None:
    proposal = read(tmp_path, with_steps(pre))
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    got = prepare(proposal.descriptor.preprocessing, image).tensor
    want = formula(image.astype(np.float64))  # type: ignore[operator]
    np.testing.assert_allclose(got[0].transpose(1, 2, 0), want, rtol=1e-5, atol=1e-5)


def test_colours_and_order_of_axes_are_those_of_the_network(tmp_path: Path) -> None:
    text = with_steps("[{resize: {size: 40}}, {centercrop: {width: 32, height: 32}}]", shape="[1, 32, 32, 3]")
    text = text.replace("3]}", "3], input_tensor_layout: NHWC, input_color_format: BGR}")
    steps = read(tmp_path, text).descriptor.preprocessing
    assert [step.tag() for step in steps] == ["resize", "centercrop", "convert_color", "normalize", "layout"]
    assert steps[3] == Normalize(divisor=1.0)


@pytest.mark.parametrize(
    ("operator", "tags"),
    [
        ("decodeyolo10: {}", ["decode_yolov8"]),
        ("decodeyolopose: {nms_top_k: 9}", ["decode_yolo_pose", "nms"]),
        ("decode-yolo-seg: {}", ["decode_yolo_segmentation", "nms"]),
        ("decodeyoloobb: {}", ["decode_yolo_obb", "nms_rotated"]),
        ("decodeyolo: {box_format: xywhr}", ["decode_yolo_obb", "nms_rotated"]),
        ("decodeyolo: {box_format: xywhr, nms_free: true, nms_top_k: 300}", ["decode_yolo_obb"]),
        ("decodeyolopose: {nms_free: true}", ["decode_yolo_pose"]),
        ("decode-retinaface: {conf_threshold: 0.2}", ["decode_retinaface", "nms"]),
        ("decodeyolo: {label_filter: 'car, bus'}", ["decode_yolov8", "nms", "filter"]),
        ("semantic-segmentation: {width: 9}", ["semantic_segmentation"]),
        ("recognition: {distance_metric: cosine}", ["embedding"]),
        ("decode-ssd-mobilenet: {}", []),
    ],
)
def test_operators_after_the_network(tmp_path: Path, operator: str, tags: list[str]) -> None:
    proposal = read(tmp_path, with_steps("[]", f"[{{{operator}}}]", more=", num_classes: 4"))
    assert [step.tag() for step in proposal.descriptor.postprocessing] == tags
    assert tags or operator.partition(":")[0] in lost(proposal)


def test_a_template_that_is_not_known_is_said(tmp_path: Path) -> None:
    text = "pipeline:\n- n: {template_path: ../../x/rtmdet.yaml}\nmodels:\n  n: {input_tensor_shape: [1, 3, 8, 8]}\n"
    assert "template_path" in lost(read(tmp_path, text))
    known = read(tmp_path, text.replace("rtmdet", "torch-imagenet")).descriptor
    assert [step.tag() for step in known.preprocessing] == ["resize", "centercrop", "normalize"]
    assert [step.tag() for step in known.postprocessing] == ["topk"]


def test_of_several_networks_one_is_chosen(tmp_path: Path) -> None:
    text = "models:\n  a: {input_tensor_shape: [1, 3, 8, 8]}\n  b: {input_tensor_shape: [1, 3, 9, 9]}\n"
    with pytest.raises(AxforgeError, match="--network NAME"):
        read(tmp_path, text)
    assert read(tmp_path, text, "b").descriptor.name == "b"
    with pytest.raises(AxforgeError, match="no network 'c'"):
        read(tmp_path, text, "c")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{y}: &{y} [{','.join([f'*{x}'] * 9)}]\n" for x, y in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "more than 20000 values"),
        ("a: &a [*a]\n", "contains itself"),
        ("[" * 5000 + "]" * 5000, "too deeply"),
        ("a: !!python/object/apply:os.system ['touch /tmp/owned']\n", "cannot be read as YAML"),
        ("a: " + "9" * 5000 + "\n", "cannot be read as YAML"),
        ("a: 2020-13-45\n", "cannot be read as YAML"),
        ("? [a]\n: b\n", "YAML"),
        ("- a\n", "not a mapping"),
        ("1: a\n", "not a mapping"),
        ("", "not a mapping"),
        ("\x00", "YAML"),
        ("a: b\n", "no `models`"),
        ("models: 7\n", "not a mapping"),
        ("models: {n: 7}\n", "not a mapping"),
        ("models: {n: {}}\n", "input_tensor_shape"),
        ("models: {n: {input_tensor_shape: [1, 3, -8, 8]}}\n", "input_tensor_shape"),
        ("models: {n: {input_tensor_shape: [1, 3, 8, 8], num_classes: -1}}\n", "num_classes"),
        (with_steps("7"), "not a list of operators"),
        (with_steps("[{a: 1, b: 2}]"), "not an operator"),
        (with_steps("[{normalize: {mean: x}}]"), "should be a number"),
        (with_steps("[{normalize: {std: 0}}]"), "divides by 0"),
        (with_steps("[{normalize: {mean: .nan}}]"), "should be a number"),
        (with_steps("[{normalize: {mean: [1, 2]}}, {normalize: {mean: [1, 2, 3]}}]"), "do not fit together"),
        (with_steps("[{resize: {width: 1.5, height: 2}}]"), "whole number"),
        (with_steps("[{resize: {}}]"), "Give either"),
        (with_steps("[]", "[{decodeyolo: {conf_threshold: 7}}]", more=", num_classes: 4"), "decodeyolo"),
    ],
)  # fmt: skip
def test_a_file_made_to_do_harm_gets_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(AxforgeError, match=said.replace("(", r"\(")):
        read(tmp_path, text)


@pytest.mark.parametrize("url", ["file:///etc/passwd.onnx", "ftp://h/x.onnx", "https://h/x y.onnx", "http://h/x.pt", "javascript:a.onnx"])
def test_an_address_that_is_not_one_is_not_taken(tmp_path: Path, url: str) -> None:
    text = DETECTOR.replace("https://example.com/w/yolov8n.onnx", f"'{url}'")
    proposal = read(tmp_path, text)
    assert proposal.descriptor.source is None
    assert "weights" in lost(proposal)


def test_a_wrong_checksum_is_not_taken(tmp_path: Path) -> None:
    assert read(tmp_path, DETECTOR.replace("2ec6c5", "../../")).descriptor.source is None


def test_what_is_not_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, said in ((tmp_path, "not a file"), (tmp_path / "pipe.yaml", "not a file"), (tmp_path / "none", "no such file")):
        with pytest.raises(AxforgeError, match=said):
            read_yaml(path)
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    (tmp_path / "long.yaml").write_text("a: " + "b" * 20)
    with pytest.raises(AxforgeError, match="more than"):
        read_yaml(tmp_path / "long.yaml")


def test_a_hostile_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    text = DETECTOR.replace("my-yolov8n", "../../up").replace("  ../../up:", "  '../../up':")
    assert "/" not in read(tmp_path, text).descriptor.name
