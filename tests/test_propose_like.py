"""An ONNX that is fed and read as a known model is: what is taken over, what is the graph's, and what does not fit."""

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import helper

from axforge import ax_models
from axforge.ax_models.zoo import table
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.descriptor import Descriptor, load_descriptor
from axforge.axruntime.pipeline.postprocessing.topk import TopK
from axforge.axruntime.pipeline.postprocessing.yolov8 import DecodeYolov8
from axforge.axruntime.pipeline.preprocessing.centercrop import CenterCrop
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.propose.like import propose_like
from axforge.axruntime.propose.proposal import Proposal
from axforge.axruntime.propose.writing import document

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import zoo_networks

SHAPES = Path(os.environ.get("AXFORGE_DATA_ROOT", "/nowhere")) / "models" / "shape" / "zoo"
LABELS = [Path(ax_models.__file__).parent / "labels"]


def known(name: str, folder: Path) -> Descriptor:
    """The descriptor of a network of the table."""
    network = table.find(name)
    assert network is not None
    (folder / "known.json").write_bytes(table.text(network))
    return load_descriptor(folder / "known.json", LABELS)


def like(model: onnx.ModelProto, name: str, folder: Path) -> Proposal:
    """The proposal for a model like that network; its model.json is read back by every check."""
    found = propose_like(onnx_models.save(model, folder), known(name, folder), LABELS)
    document(found.descriptor)
    return found


def yolov8(classes: int, size: int | str = 128) -> onnx.ModelProto:
    """[1, 3, size, size] -> [1, 4 + classes, cells of strides 8, 16, 32]."""
    nodes, rows = [], []
    constants = {"shape": np.array([1, 4 + classes, -1]), "two": np.full(1, 2, np.float32), "split": np.array([4, classes])}
    for stride in (8, 16, 32):
        constants[f"w{stride}"] = np.zeros((4 + classes, 3, 1, 1), np.float32)
        nodes.append(helper.make_node("Conv", ["x", f"w{stride}"], [f"c{stride}"], strides=[stride, stride]))
        nodes.append(helper.make_node("Reshape", [f"c{stride}", "shape"], [f"r{stride}"]))
        rows.append(f"r{stride}")
    nodes += [
        helper.make_node("Concat", rows, ["all"], axis=2),
        helper.make_node("Split", ["all", "split"], ["b", "s"], axis=1),
        helper.make_node("Mul", ["b", "two"], ["boxes"]),
        helper.make_node("Sigmoid", ["s"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["y"], axis=1),
    ]
    return onnx_models.model(nodes, {"x": [1, 3, size, size]}, ["y"], constants)


def classifier(classes: int, size: int) -> onnx.ModelProto:
    """[1, 3, size, size] -> [1, classes]."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["y"]),
    ]
    return onnx_models.model(nodes, {"x": [1, 3, size, size]}, ["y"], {"w": np.zeros((classes, 3, 1, 1), np.float32)})


def test_sizes_and_classes_are_the_graphs(tmp_path: Path) -> None:
    found = like(yolov8(7), "yolov8n-coco-onnx", tmp_path)
    descriptor = found.descriptor
    assert descriptor.preprocessing[0] == Resize(width=128, height=128, letterbox=True)
    assert descriptor.postprocessing[0] == DecodeYolov8(classes=7, confidence_threshold=0.25)
    assert descriptor.postprocessing[1].tag() == "nms"
    assert (descriptor.labels, descriptor.dataset, descriptor.reference) == ((), None, ())
    labels = found.choice("labels")
    assert labels is not None
    assert labels.sure == "guess"


def test_labels_are_taken_over_where_there_are_as_many_classes(tmp_path: Path) -> None:
    found = like(yolov8(80), "yolov8n-coco-onnx", tmp_path)
    assert found.descriptor.labels == "labels.txt"
    assert found.files["labels.txt"].startswith("person\nbicycle\n")


def test_names_in_the_file_win(tmp_path: Path) -> None:
    model = yolov8(2)
    helper.set_model_props(model, {"names": "{0: 'cat', 1: 'dog'}"})
    assert like(model, "yolov8n-coco-onnx", tmp_path).descriptor.labels == ("cat", "dog")


def test_a_free_size_is_pinned(tmp_path: Path) -> None:
    found = like(yolov8(80, "side"), "yolov8n-coco-onnx", tmp_path)
    assert found.descriptor.compile == {"check": {"input_shapes": {"x": [1, 3, 640, 640]}}}


def test_a_resize_before_a_crop_keeps_its_proportion(tmp_path: Path) -> None:
    steps = like(classifier(1000, 448), "resnet18-imagenet-onnx", tmp_path).descriptor.preprocessing
    assert steps[:2] == (Resize(size=512, antialias=True), CenterCrop(width=448, height=448))


def test_a_softmax_in_the_graph_is_not_repeated(tmp_path: Path) -> None:
    model = classifier(1000, 224)
    model.graph.node.append(helper.make_node("Softmax", ["y"], ["z"]))
    model.graph.output[0].name = "z"
    assert like(model, "resnet18-imagenet-onnx", tmp_path).descriptor.postprocessing == (TopK(k=5, softmax=False),)


def test_a_decoder_that_does_not_read_the_outputs_is_refused_with_one_that_does(tmp_path: Path) -> None:
    with pytest.raises(AxforgeError, match="decode_yolov8 does"):
        like(yolov8(80), "yolov5n-v7-coco-onnx", tmp_path)


def test_a_decoder_that_nothing_speaks_for_is_a_guess(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Reshape", ["c", "shape"], ["y"])]
    constants = {"w": np.zeros((2, 3, 1, 1), np.float32), "shape": np.array([1, 2, 2, 2, 16, 64])}
    model = onnx_models.model(nodes, {"x": [1, 3, 64, 64]}, ["y"], constants)
    decoder = like(model, "yolov8n-coco-onnx", tmp_path).choice("decoder")
    assert decoder is not None
    assert (decoder.value, decoder.sure) == ("decode_yolov8", "guess")


def test_what_is_not_an_onnx_is_refused(tmp_path: Path) -> None:
    model = known("yolov8n-coco-onnx", tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"no")
    for path in (tmp_path, tmp_path / "net.onnx", tmp_path / "none.onnx"):
        with pytest.raises(AxforgeError):
            propose_like(path, model, LABELS)


@pytest.mark.skipif(not SHAPES.is_dir(), reason="needs the shape graphs below AXFORGE_DATA_ROOT")
def test_the_table_fits_the_architectures_at_hand(tmp_path: Path) -> None:
    """Graphs of published networks, without their weights: the row's decoder reads the outputs, and the row's picture is the input."""
    wrong = {}
    for path in sorted(SHAPES.glob("*.shape.onnx")):
        name = zoo_networks.network(path.name)
        network = table.find(name)
        assert network is not None
        found = propose_like(path, known(name, tmp_path), LABELS)
        decoder, shown = found.choice("decoder"), found.choice("input")
        assert decoder is not None
        assert shown is not None
        read = decoder.sure in ("certain", "likely") or not network.family.startswith("yolo")
        if not read or not shown.value.endswith(f"{network.height}, {network.width}]"):
            wrong[path.name] = (decoder, shown)
    assert wrong == {}
