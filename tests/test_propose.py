"""Proposals of a model.json: what is recognised in a graph, how sure it is, and what is written."""

import contextlib
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from axforge.ax_models.builders import efficientnet_lite0
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.descriptor import load_descriptor
from axforge.axruntime.pipeline.postprocessing.embedding import Embed
from axforge.axruntime.pipeline.postprocessing.nanodet import DecodeNanoDet
from axforge.axruntime.pipeline.postprocessing.ssd import DecodeSsd
from axforge.axruntime.pipeline.postprocessing.topk import TopK
from axforge.axruntime.pipeline.postprocessing.yolov8 import DecodeYolov8
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.propose import report, trial, writing
from axforge.axruntime.propose.__main__ import main, shipped_labels
from axforge.axruntime.propose.feeding import RANGES
from axforge.axruntime.propose.metadata import notes
from axforge.axruntime.propose.proposal import Proposal
from axforge.axruntime.propose.propose import model_name, propose
from axforge.axruntime.propose.trial import Attempt, tried

DATA = Path(os.environ.get("AXFORGE_DATA_ROOT", "/nowhere"))
SHAPES = DATA / "models" / "shape"
Shape = list[int | str | None]


def proposal(model: onnx.ModelProto, folder: Path, **options: Path) -> Proposal:
    return propose(onnx_models.save(model, folder), [shipped_labels()], **options)


def sureness(found: Proposal, what: str) -> str:
    choice = found.choice(what)
    return "" if choice is None else choice.sure


def conv(name: str, channels: int, source: str = "x", stride: int = 1) -> tuple[onnx.NodeProto, dict[str, onnx_models.Array]]:
    weights = {f"{name}.w": np.zeros((channels, 3, 1, 1), np.float32)}
    return helper.make_node("Conv", [source, f"{name}.w"], [name], strides=[stride, stride]), weights


def detector(parts: list[int], *, size: int | str = 128, kind: str = "v8") -> onnx.ModelProto:
    """Heads on maps of strides 8, 16 and 32, joined as exporters join them: `v8` [1, sum(parts), N], `rows` [1, N, sum(parts)]."""
    nodes, constants = [], {"shape": np.array([1, sum(parts), -1]), "two": np.full((1,), 2, np.float32)}
    rows = []
    for stride in (8, 16, 32):
        node, weights = conv(f"c{stride}", sum(parts), stride=stride)
        constants |= weights
        nodes += [node, helper.make_node("Reshape", [f"c{stride}", "shape"], [f"r{stride}"])]
        rows.append(f"r{stride}")
    nodes.append(helper.make_node("Concat", rows, ["all"], axis=2))
    if kind == "v8":
        constants["split"] = np.array(parts)
        pieces = [f"p{i}" for i in range(len(parts))]
        nodes.append(helper.make_node("Split", ["all", "split"], pieces, axis=1))
        nodes.append(helper.make_node("Mul", ["p0", "two"], ["boxes"]))
        nodes.append(helper.make_node("Sigmoid", ["p1"], ["scores"]))
        nodes.append(helper.make_node("Concat", ["boxes", "scores", *pieces[2:]], ["y"], axis=1))
    elif kind == "rows":
        nodes += [helper.make_node("Mul", ["all", "two"], ["scaled"]), helper.make_node("Transpose", ["scaled"], ["y"], perm=[0, 2, 1])]
    else:
        nodes.append(helper.make_node("Transpose", ["all"], ["y"], perm=[0, 2, 1]))
    return onnx_models.model(nodes, {"x": [1, 3, size, size]}, ["y"], constants)


def classifier(classes: int, *, size: int | str = 32, ends: str = "", batch: int | str = 1, producer: str = "") -> onnx.ModelProto:
    node, constants = conv("c", classes)
    nodes = [node, helper.make_node("GlobalAveragePool", ["c"], ["g"]), helper.make_node("Flatten", ["g"], ["f" if ends else "y"])]
    if ends:
        nodes.append(helper.make_node(ends, ["f"], ["y"]))
    model = onnx_models.model(nodes, {"x": [batch, 3, size, size]}, ["y"], constants)
    model.producer_name = producer
    return model


def noted(model: onnx.ModelProto, **properties: str) -> onnx.ModelProto:
    helper.set_model_props(model, properties)
    return model


def test_a_head_of_yolov8_is_certain_where_the_graph_joins_boxes_and_scores(tmp_path: Path) -> None:
    found = proposal(detector([4, 80]), tmp_path)
    assert found.descriptor.postprocessing[0] == DecodeYolov8(classes=80)
    assert found.descriptor.task == "detection"
    assert found.descriptor.labels == "coco.txt"
    assert found.files["coco.txt"].startswith("person\nbicycle\n")
    assert (sureness(found, "decoder"), sureness(found, "labels")) == ("certain", "likely")
    assert found.descriptor.preprocessing == (Resize(width=128, height=128, letterbox=True), Normalize())


@pytest.mark.parametrize(("parts", "kind"), [([4, 15, 1], "decode_yolo_obb"), ([4, 1, 51], "decode_yolo_pose")])
def test_boxes_with_more_are_not_taken_for_boxes_of_more_classes(parts: list[int], kind: str, tmp_path: Path) -> None:
    found = proposal(detector(parts), tmp_path)
    decoder = found.choice("decoder")
    assert decoder is not None
    assert (decoder.value, decoder.sure) == (kind, "likely")
    assert found.descriptor.postprocessing[0].tag() == kind
    assert found.descriptor.preprocessing[0] == Resize(width=128, height=128, letterbox=True)


def test_rows_are_of_yolox_when_boxes_leave_the_graph_undecoded_and_of_yolov5_when_not(tmp_path: Path) -> None:
    raw, decoded = proposal(detector([85], kind="raw"), tmp_path), proposal(detector([85], kind="rows"), tmp_path)
    assert [step.tag() for step in raw.descriptor.postprocessing] == ["decode_yolox", "nms"]
    assert [step.tag() for step in raw.descriptor.preprocessing] == ["resize", "convert_color", "normalize"]
    assert [step.tag() for step in decoded.descriptor.postprocessing] == ["decode_yolov5", "nms"]


def test_rows_of_distributions_are_of_nanodet(tmp_path: Path) -> None:
    found = proposal(detector([80 + 4 * 8], kind="raw"), tmp_path)
    decoder = found.descriptor.postprocessing[0]
    assert isinstance(decoder, DecodeNanoDet)
    assert (decoder.classes, decoder.strides, decoder.offset) == (80, (8, 16, 32), 0.5)
    assert sureness(found, "decoder") == "likely"
    assert any("decode_yolox would fit too" in line for line in report.checks(found.choices))


def pair(anchors: int, classes: int, *, decoded: bool = True) -> onnx.ModelProto:
    """Scores [1, anchors, classes] and boxes [1, anchors, 4], which the graph has scaled if they are decoded."""
    constants: dict[str, onnx_models.Array] = {"k": np.ones(1, np.float32)}
    nodes = []
    for name, width in (("scores", classes), ("boxes", 4)):
        node, weights = conv(f"c{name}", anchors * width)
        constants |= weights | {f"s{name}": np.array([1, anchors, width])}
        last = "raw" if decoded and name == "boxes" else name
        nodes += [
            node,
            helper.make_node("GlobalAveragePool", [f"c{name}"], [f"g{name}"]),
            helper.make_node("Reshape", [f"g{name}", f"s{name}"], [last]),
        ]
    nodes += [helper.make_node("Mul", ["raw", "k"], ["boxes"])] if decoded else []
    return onnx_models.model(nodes, {"x": [1, 3, 300, 300]}, ["scores", "boxes"], constants)


def test_a_pair_of_scores_and_decoded_boxes_is_an_ssd_at_best(tmp_path: Path) -> None:
    found = proposal(pair(1917, 81), tmp_path)
    decoder = found.descriptor.postprocessing[0]
    assert decoder == DecodeSsd(classes=80, background=True, activation="softmax")
    assert found.descriptor.labels == "coco.txt"
    assert sureness(found, "decoder") == "guess"


@pytest.mark.parametrize(("anchors", "kind"), [(1917, "offsets to anchors"), (100, "DETR")])
def test_a_pair_that_cannot_be_decoded_is_named(anchors: int, kind: str, tmp_path: Path) -> None:
    decoder = proposal(pair(anchors, 81, decoded=False), tmp_path).choice("decoder")
    assert decoder is not None
    assert kind in decoder.why


@pytest.mark.parametrize(("ends", "sure"), [("", "guess"), ("LpNormalization", "likely")])
def test_vectors_that_are_no_classes_are_embeddings(ends: str, sure: str, tmp_path: Path) -> None:
    found = proposal(classifier(512, ends=ends, size=112), tmp_path)
    assert found.descriptor.postprocessing[0] == Embed(unit_length=not ends)
    assert found.descriptor.task == "embedding"
    assert found.descriptor.labels == ()
    assert sureness(found, "decoder") == sure


def test_the_number_of_boxes_gives_a_free_size_away(tmp_path: Path) -> None:
    model = detector([4, 80], size="side")
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 84, 3549]))
    found = proposal(model, tmp_path)
    chosen = found.choice("input")
    assert chosen is not None
    assert (chosen.value, chosen.sure) == ("x [1, 3, 416, 416]", "likely")
    assert found.descriptor.compile == {"check": {"input_shapes": {"x": [1, 3, 416, 416]}}}


def test_notes_of_the_exporter_make_it_certain(tmp_path: Path) -> None:
    names = str({0: "bolt", 1: "nut (M8)"})
    model = noted(detector([4, 2], size="side"), author="Ultralytics", task="detect", imgsz="[96, 128]", names=names, license="AGPL-3.0")
    found = proposal(model, tmp_path)
    assert {d.sure for d in found.choices if d.what != "calibration"} == {"certain"}
    assert found.descriptor.labels == ("bolt", "nut (M8)")
    assert found.descriptor.license == "AGPL-3.0"
    assert found.descriptor.preprocessing[0] == Resize(width=128, height=96, letterbox=True)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('false')",
        "{0: 'a', 2: 'b'}",
        "{0: 'a'",
        "[" * 100_000,
        "-" * 100_000 + "1",
        "['a', 3]",
        "3",
        '{"0": null}',
        "\ud800",
        "['" + "x" * (1 << 20) + "']",
    ],
)
def test_notes_that_are_not_names_are_left_out(text: str) -> None:
    assert notes({"names": text}).class_names == ()


def test_names_are_read_from_lists_and_mappings_and_lose_what_steers_a_terminal() -> None:
    assert notes({"names": '["a\\u001b[31m", "b"]'}).class_names == ("a [31m", "b")
    assert notes({"names": '{"1": "b", "0": "a"}'}).class_names == ("a", "b")


@pytest.mark.parametrize(("ends", "softmax"), [("Softmax", False), ("Sigmoid", False), ("", True), ("LogSoftmax", True)])
def test_softmax_is_added_where_the_graph_has_none(ends: str, softmax: bool, tmp_path: Path) -> None:
    found = proposal(classifier(1000, ends=ends, size=224), tmp_path)
    assert found.descriptor.postprocessing == (TopK(softmax=softmax),)
    assert found.descriptor.labels == "imagenet.txt"
    assert [step.tag() for step in found.descriptor.preprocessing] == ["resize", "centercrop", "normalize"]


def test_a_background_before_the_classes_is_skipped(tmp_path: Path) -> None:
    found = proposal(classifier(1001, ends="Softmax"), tmp_path)
    assert found.descriptor.postprocessing == (TopK(skip=1),)
    assert found.descriptor.labels == "imagenet.txt"
    assert found.descriptor.preprocessing[-1] == Normalize(mean=127.5, std=127.5, divisor=1.0)


def test_few_classes_get_no_names_of_a_file_that_happens_to_have_as_many(tmp_path: Path) -> None:
    found = proposal(classifier(12, size=64), tmp_path)
    assert found.descriptor.labels == ()
    assert sureness(found, "decoder") == "guess"
    assert any("Name the 12 classes" in line for line in report.checks(found.choices))


def test_maps_of_classes_are_a_segmentation(tmp_path: Path) -> None:
    node, constants = conv("y", 21)
    found = proposal(onnx_models.model([node], {"x": [1, 3, 65, 33]}, ["y"], constants), tmp_path)
    assert [step.tag() for step in found.descriptor.postprocessing] == ["semantic_segmentation"]
    assert found.descriptor.labels == "voc.txt"


def test_what_the_graph_does_to_its_input_decides_the_values(tmp_path: Path) -> None:
    for scale, divisor in ((1 / 255, 1.0), (2.0, 255.0)):
        node, constants = conv("c", 5, "n")
        constants |= {"k": np.full(1, scale, np.float32), "m": np.full((1, 3, 1, 1), 0.5, np.float32)}
        before = [helper.make_node("Mul", ["x", "k"], ["s"]), helper.make_node("Sub", ["s", "m"], ["n"])]
        after = [helper.make_node("GlobalAveragePool", ["c"], ["y"])]
        found = proposal(onnx_models.model([*before, node, *after], {"x": [1, 3, 8, 8]}, ["y"], constants), tmp_path)
        assert found.descriptor.preprocessing[-1] == Normalize(divisor=divisor)
        values = found.choice("values")
        assert values is not None
        assert "Mul, Sub" in values.why


def test_pictures_whose_channels_come_last_get_a_layout(tmp_path: Path) -> None:
    node, constants = conv("c", 5, "t")
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), node, helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    model = onnx_models.model(nodes, {"x": ["batch", 8, 12, 3]}, ["y"], constants)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    found = proposal(model, tmp_path)
    assert [step.tag() for step in found.descriptor.preprocessing] == ["resize", "layout"]
    assert found.descriptor.preprocessing[0] == Resize(width=12, height=8, antialias=True)
    assert found.descriptor.compile == {"check": {"input_shapes": {"x": [1, 8, 12, 3]}}}


@pytest.mark.parametrize(("ends", "kind"), [("Sigmoid", "probability for each pixel"), ("", "not recognised")])
def test_maps_of_one_channel_are_named_where_they_are_probabilities(ends: str, kind: str, tmp_path: Path) -> None:
    node, constants = conv("c" if ends else "y", 1)
    nodes = [node, *([helper.make_node(ends, ["c"], ["y"])] if ends else [])]
    decoder = proposal(onnx_models.model(nodes, {"x": [1, 3, 64, 32]}, ["y"], constants), tmp_path).choice("decoder")
    assert decoder is not None
    assert kind in decoder.why


@pytest.mark.parametrize(("shape", "kind"), [([1, 300, 6], "end-to-end"), ([1, 400, 9], "not recognised")])
def test_finished_boxes_are_named(shape: list[int], kind: str, tmp_path: Path) -> None:
    node, constants = conv("c", shape[1] * shape[2])
    nodes = [node, helper.make_node("GlobalAveragePool", ["c"], ["g"]), helper.make_node("Reshape", ["g", "shape"], ["y"])]
    model = onnx_models.model(nodes, {"x": [1, 3, 64, 64]}, ["y"], {**constants, "shape": np.array(shape)})
    decoder = proposal(model, tmp_path).choice("decoder")
    assert decoder is not None
    assert kind in decoder.why


def test_concatenations_in_concatenations_do_not_take_for_ever(tmp_path: Path) -> None:
    node, constants = conv("c0", 4)
    nested = [helper.make_node("Concat", [f"c{i}"] * 200, [f"c{i + 1}"], axis=1) for i in range(5)]
    model = onnx_models.model([node, *nested], {"x": [1, 3, 64, 64]}, ["c5"], constants)
    assert proposal(model, tmp_path).descriptor.name == "model"


def test_unknown_outputs_stay_what_they_are(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2], keepdims=0)]
    found = proposal(onnx_models.model(nodes, {"x": [1, 80, 3000]}, ["y"], opset=13), tmp_path)
    decoder = found.choice("decoder")
    assert decoder is not None
    assert found.descriptor.preprocessing == ()
    assert decoder.sure in ("likely", "guess")


def test_what_is_written_is_what_was_proposed(tmp_path: Path) -> None:
    found = proposal(detector([4, 80]), tmp_path)
    path = writing.write(found, tmp_path / "models")
    read = load_descriptor(path)
    assert read.label_names[:2] == ("person", "bicycle")
    assert msgspec.structs.replace(read, labels="coco.txt") == found.descriptor
    assert sorted(p.name for p in path.parent.iterdir()) == ["coco.txt", "model.json"]
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["model"]
    assert oct(path.parent.stat().st_mode & 0o777) == oct(0o777 & ~writing._umask())


def test_nothing_is_overwritten_unless_asked_for(tmp_path: Path) -> None:
    found = proposal(detector([4, 80]), tmp_path)
    path = writing.write(found, tmp_path / "models")
    path.write_text("mine")
    with pytest.raises(AxforgeError, match=r"There is a coco\.txt already"):
        writing.write(found, tmp_path / "models")
    assert path.read_text() == "mine"
    assert json.loads(writing.write(found, tmp_path / "models", replace=True).read_text())["name"] == "model"


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = proposal(detector([4, 80]), tmp_path)

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(AxforgeError, match="No space left on device"):
        writing.write(found, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_the_source_is_relative_to_the_data_root(tmp_path: Path) -> None:
    found = proposal(detector([4, 80]), tmp_path, data_root=tmp_path)
    assert found.descriptor.source is not None
    assert found.descriptor.source.file == "model.onnx"


def test_names_of_models_come_from_any_file_name() -> None:
    names = [model_name(Path(text)) for text in ("my net (1).onnx", "yolov8n.shape.onnx", "äö.onnx", ".onnx", "a" * 300 + ".onnx")]
    assert names == ["my-net-1-", "yolov8n", "model", "model", "a" * 100]


@pytest.mark.parametrize("damage", ["missing", "empty", "noise", "cut", "folder", "two inputs", "cycle", "bad shapes"])
def test_bad_files_are_answered_by_a_sentence(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, model = tmp_path / "model.onnx", detector([4, 80])
    if damage == "folder":
        path.mkdir()
    elif damage == "two inputs":
        model.graph.input.append(helper.make_tensor_value_info("z\x1b[2J", TensorProto.FLOAT, [1]))
    elif damage == "cycle":
        model.graph.node.append(helper.make_node("Identity", ["q"], ["q"]))
        model.graph.node.append(helper.make_node("Concat", ["y2", "y2"], ["y2"], axis=1))
        model.graph.output.append(helper.make_tensor_value_info("q", TensorProto.FLOAT, None))
        model.graph.output.append(helper.make_tensor_value_info("y2", TensorProto.FLOAT, None))
    elif damage == "bad shapes":
        model.graph.node.append(helper.make_node("Concat", [], ["q"], axis=-9))
        model.graph.output.append(helper.make_tensor_value_info("q", 9999, [-3, 2**62, 2**62]))
    data = {"empty": b"", "noise": b"\x00\x01 not an onnx", "cut": model.SerializeToString()[:200]}.get(damage, model.SerializeToString())
    if damage not in ("missing", "folder"):
        path.write_bytes(data)
    status = main([str(path), "-o", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert "\x1b" not in captured.err + captured.out
    if damage in ("cycle", "bad shapes"):  # odd, but a graph: something is proposed
        assert status == 0
    else:
        assert status == 1
        assert captured.err.startswith("propose: ")
        assert not (tmp_path / "out").exists()


def test_any_damage_gives_a_proposal_or_a_sentence(tmp_path: Path) -> None:
    """Bytes changed at random: no traceback, whatever they hit."""
    good, rng, path = (
        bytearray(noted(detector([4, 80]), names="{0: 'a'}").SerializeToString()),
        np.random.default_rng(7),
        tmp_path / "m.onnx",
    )
    for _ in range(150):
        bad = bytearray(good)
        for at in rng.integers(0, len(bad), 6):
            bad[at] = rng.integers(256)
        path.write_bytes(bad)
        with contextlib.suppress(AxforgeError):
            writing.document(propose(path).descriptor)


def test_the_command_prints_a_table_and_what_to_type_next(tmp_path: Path) -> None:
    path = onnx_models.save(detector([4, 80]), tmp_path, "two words.onnx")
    command = [sys.executable, "-m", "axforge.axruntime.propose", str(path), "-o", str(tmp_path / "out")]
    env = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["choice", "value", "how", "sure", "why"]
    assert max(map(len, lines[: lines.index("")])) <= 100
    assert (tmp_path / "out" / "two-words" / "model.json").is_file()
    assert "two-words PICTURE.jpg" in lines[-1]
    again = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert again.returncode == 1
    assert "--force" in again.stderr


# -------------------------------------------------------------------------------------------------------------------- the trial


def test_a_trial_finds_how_a_network_is_fed(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    efficientnet_lite0.build(None, path)
    found = tried(propose(path, [shipped_labels()]))
    assert found.descriptor.preprocessing[-1] == Normalize(mean=127.5, std=127.5, divisor=1.0)
    assert [step.tag() for step in found.descriptor.preprocessing] == ["resize", "centercrop", "normalize"]
    assert {sureness(found, what) for what in ("decoder", "labels", "task", "classes")} == {"certain"}
    values = found.choice("values")
    assert values is not None
    assert "Tried on photos" in values.why


def attempts(*scores: float) -> list[Attempt]:
    return [Attempt(order, values, score) for (order, values), score in zip(product(("RGB", "BGR"), RANGES[:2]), scores, strict=True)]


def test_the_best_attempt_wins_by_as_much_as_it_is_better(tmp_path: Path) -> None:
    given = proposal(detector([4, 80]), tmp_path)
    found = trial._judged(given, attempts(0.5, 0.1, 0.9, 0.2), 5)
    assert [step.tag() for step in found.descriptor.preprocessing] == ["resize", "convert_color", "normalize"]
    assert (sureness(found, "values"), sureness(found, "colours"), sureness(found, "labels")) == ("certain", "likely", "certain")


def test_a_tie_changes_nothing(tmp_path: Path) -> None:
    given = proposal(detector([4, 80]), tmp_path)
    assert trial._judged(given, attempts(0.89, 0.1, 0.9, 0.2), 5).descriptor == given.descriptor


def test_a_network_that_sees_nothing_is_not_believed(tmp_path: Path) -> None:
    given = proposal(detector([4, 80]), tmp_path)
    found = trial._judged(given, attempts(0.05, 0.1, 0.09, 0.02), 5)
    assert found.descriptor == given.descriptor
    assert sureness(found, "labels") == "likely"
    assert any("does not see what is there" in line for line in report.checks(found.choices))


def test_classes_that_no_photo_shows_cannot_be_tried(tmp_path: Path) -> None:
    given = proposal(detector([4, 2]), tmp_path)
    found = tried(given)
    assert found.descriptor == given.descriptor
    assert found.choices[-1].value == "not possible"


def test_a_network_that_cannot_run_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = detector([4, 80])
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "c8.w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="lost.bin")
    assert main([str(onnx_models.save(model, tmp_path)), "--try", "-o", str(tmp_path / "out")]) == 1
    assert "onnxruntime cannot load the model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------------ the models at hand


def zoo() -> list[str]:
    return sorted(str(path.relative_to(SHAPES)) for path in SHAPES.rglob("*.shape.onnx"))


def expected_step(name: str) -> str:
    """What reads the outputs of one of the shape graphs: a step, or a word for what is recognised without one."""
    words = {
        "_seg": "decode_yolo_segmentation",
        "_pose": "decode_yolo_pose",
        "_obb": "decode_yolo_obb",
        "detr": "decode_detr",
        "whisper": "not recognised",
    }
    for part, answer in words.items():
        if part in name:
            return answer
    if "yolov5" in name or "yolov3" in name:
        return "decode_yolov5"
    if "yolo" in name or "gelan" in name:
        return "decode_yolov8"
    return "semantic_segmentation" if "u_net" in name else "topk"


@pytest.mark.skipif(not SHAPES.is_dir(), reason="needs the shape graphs below AXFORGE_DATA_ROOT")
def test_every_shape_graph_is_recognised() -> None:
    wrong = {}
    for name in zoo():
        found = propose(SHAPES / name, [shipped_labels()])
        decoder = found.choice("decoder")
        assert decoder is not None
        if expected_step(name) not in (decoder.value, "") and expected_step(name) not in decoder.why:
            wrong[name] = decoder
    assert wrong == {}


@pytest.mark.skipif(not (DATA / "models" / "yolox_nano.onnx").is_file(), reason="needs models below AXFORGE_DATA_ROOT")
@pytest.mark.parametrize("name", sorted(path.parent.name for path in (shipped_labels().parent).glob("*/model.json")))
def test_the_models_that_come_along_are_proposed_as_they_are_described(name: str) -> None:
    described = load_descriptor(shipped_labels().parent / name / "model.json")
    if described.source is None or described.source.file is None or not (DATA / described.source.file).is_file():
        pytest.skip("its ONNX is not a file below the data root")
    found = propose(DATA / described.source.file, [shipped_labels()], DATA).descriptor
    assert found.source == described.source
    assert found.task == described.task
    assert [step.tag() for step in found.postprocessing] == [step.tag() for step in described.postprocessing]
    for ours, theirs in zip(found.postprocessing, described.postprocessing, strict=True):
        for parameter in ("classes", "bins", "strides", "softmax", "skip", "scores", "boxes"):
            assert getattr(ours, parameter, None) == getattr(theirs, parameter, None)
    if name != "ds_cnn_kws":  # spectrograms: nothing in the graph says how they are normalised
        assert [s.tag() for s in found.preprocessing] == [s.tag() for s in described.preprocessing]
