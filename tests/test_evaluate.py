"""Metrics agree with hand-made cases, and the fp32 models reach the accuracy that others measured for them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from axforge import ax_models
from axforge.ax_models.builders import efficientnet_lite0
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.engines.onnx import OnnxEngine
from axforge.axruntime.evaluate.datasets import open_dataset
from axforge.axruntime.evaluate.evaluate import evaluate, for_measuring
from axforge.axruntime.evaluate.metrics import psnr
from axforge.axruntime.media.images import write_image
from axforge.axruntime.media.opening import open_source
from axforge.axruntime.media.sources.fakevideo import fake_picture
from axforge.axruntime.pipeline.descriptor import Descriptor, load_descriptor, parse_descriptor
from axforge.axruntime.pipeline.pipeline import Pipeline
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.postprocessing.topk import TopK
from axforge.axruntime.pipeline.postprocessing.yolox import DecodeYolox
from axforge.axruntime.results.classification import Classification, TopAccuracy
from axforge.axruntime.results.detections import Boxes, Detections, MeanAveragePrecision
from axforge.axruntime.results.segmentation import IntersectionOverUnion, Segmentation

ZOO = Path(ax_models.__file__).parent
IMAGE = np.zeros((100, 100, 3), np.uint8)


def classes(*ids: int) -> Classification:
    return Classification(ids, (0.0,) * len(ids), ("",) * len(ids))


def test_top_1_and_top_5_count_ranks() -> None:
    metric = TopAccuracy()
    for found, truth in (((3, 1, 2, 0, 4), 3), ((3, 1, 2, 0, 4), 4), ((3, 1, 2, 0, 4), 9), ((9, 1, 2, 0, 4), 9)):
        metric.add(classes(*found), truth, IMAGE)
    assert metric.values() == {"top-1": 50.0, "top-5": 75.0}


def test_top_5_is_not_claimed_for_two_classes() -> None:
    metric = TopAccuracy()
    metric.add(classes(0, 1), 0, IMAGE)
    assert metric.values() == {"top-1": 100.0}


def found(boxes: list[list[float]], ids: list[int], scores: list[float]) -> Detections:
    return Detections(np.array(boxes, np.float64).reshape(-1, 4), np.array(scores), np.array(ids, np.int64), ("",) * len(ids))


def test_map_of_perfect_shifted_and_missing_boxes() -> None:
    truth = Boxes(np.array([[10.0, 10, 50, 50], [60, 60, 90, 90]]), np.array([0, 1]))
    perfect, shifted, nothing = MeanAveragePrecision(), MeanAveragePrecision(), MeanAveragePrecision()
    perfect.add(found(truth.boxes.tolist(), [0, 1], [0.9, 0.8]), truth, IMAGE)
    # IoU 0.6 for class 0 (counts at 0.50, 0.55 and 0.60), class 1 missed
    shifted.add(found([[20, 10, 60, 50]], [0], [0.9]), truth, IMAGE)
    nothing.add(found([], [], []), truth, IMAGE)
    assert perfect.values() == pytest.approx({"mAP50-95": 100.0, "mAP50": 100.0})
    assert shifted.values() == pytest.approx({"mAP50-95": 100 * (3 / 10) / 2, "mAP50": 50.0})
    assert nothing.values() == {"mAP50-95": 0.0, "mAP50": 0.0}


def test_miou_counts_classes_of_the_truth_and_leaves_out_unjudged_pixels() -> None:
    truth = np.zeros((10, 10), np.int64)
    truth[:, 5:] = 3
    truth[0] = 255
    mask = np.zeros((10, 10), np.uint8)
    mask[:, 6:] = 3
    mask[0] = 7
    metric = IntersectionOverUnion()
    metric.add(Segmentation(mask, ()), truth, IMAGE)
    background, thing = 45 / 54, 36 / 45
    expected = {"mIoU": 50 * (background + thing), "mIoU of objects": 100 * thing, "pixel accuracy": 100 * 81 / 90}
    assert metric.values() == pytest.approx(expected)


def test_psnr_of_a_known_error() -> None:
    a = np.zeros((4, 4))
    assert psnr(a, a) == float("inf")
    assert psnr(a, a + 0.1) == pytest.approx(20.0)
    assert psnr(a, a + 25.5, peak=255) == pytest.approx(20.0)


def test_measuring_takes_the_thresholds_of_the_dataset() -> None:
    descriptor = load_descriptor(ZOO / "yolox_nano" / "model.json")
    decode, nms = for_measuring(descriptor).postprocessing
    assert isinstance(decode, DecodeYolox)
    assert (decode.confidence_threshold, decode.multi_label) == (0.001, True)
    assert isinstance(nms, Nms)
    assert nms.iou_threshold == 0.65
    (top,) = for_measuring(load_descriptor(ZOO / "ds_cnn_kws" / "model.json")).postprocessing
    assert isinstance(top, TopK)
    assert top.k == 5


class Brightest:
    """An engine that answers the mean of each channel: a classifier of red, green and blue pictures."""

    name = "brightest"
    inputs: Mapping[str, tuple[tuple[int, ...], str]] = {"x": ((1, 3, 8, 8), "float32")}
    quantization: Mapping[str, tuple[float, int]] = {}
    outputs: Mapping[str, tuple[tuple[int, ...], str]] = {"y": ((1, 3), "float32")}

    def run(self, feeds: Mapping[str, NDArray[Any]], *, raw: bool = False) -> dict[str, NDArray[Any]]:
        return {"y": feeds["x"].mean(axis=(2, 3))}

    def close(self) -> None:
        return None


def colours(**changes: Any) -> Descriptor:
    document = {
        "name": "colours",
        "preprocessing": [{"type": "resize", "width": 8, "height": 8}],
        "postprocessing": [{"type": "topk", "k": 3}],
        "dataset": {"type": "image-folder", "path": "colours"},
    }
    return parse_descriptor(json.dumps(document | changes).encode(), "model.json")


@pytest.fixture
def painted(tmp_path: Path) -> Path:
    lines = []
    for i in range(6):
        image = np.zeros((12, 12, 3), np.uint8)
        image[:, :, i % 3] = 200
        write_image(tmp_path / "colours" / f"{i}.png", image)
        lines.append(f"{i}.png {i % 3 if i else 2}")  # the first label is wrong
    (tmp_path / "colours" / "labels.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_evaluate_runs_the_dataset_through_the_engine(painted: Path) -> None:
    pipeline = Pipeline(colours(), Brightest())
    seen: list[tuple[int, int]] = []
    report = evaluate(pipeline, open_dataset(colours(), painted), progress=lambda done, total, note: seen.append((done, total)))
    assert report.metrics == {"top-1": pytest.approx(100 * 5 / 6)}
    assert (report.images, report.primary, report.engine, report.value) == (6, "top-1", "brightest", report.metrics["top-1"])
    assert seen == [(i, 6) for i in range(1, 7)]
    assert report.images_per_second > 0
    assert json.loads(json.dumps(report.as_json()))["model"] == "colours"


def test_a_limit_takes_samples_from_all_over(painted: Path) -> None:
    report = evaluate(Pipeline(colours(), Brightest()), open_dataset(colours(), painted), limit=2)
    assert (report.images, report.value) == (2, 50.0)
    with pytest.raises(AxforgeError, match="0 samples are too few"):
        evaluate(Pipeline(colours(), Brightest()), open_dataset(colours(), painted), limit=0)


def test_a_class_map_translates_the_outputs(painted: Path) -> None:
    descriptor = colours(dataset={"type": "image-folder", "path": "colours", "class_map": [1, 2, 0]})
    report = evaluate(Pipeline(descriptor, Brightest()), open_dataset(descriptor, painted))
    assert report.value == 0.0


def test_datasets_that_are_not_there_or_damaged_say_so(painted: Path) -> None:
    with pytest.raises(AxforgeError, match="AXFORGE_DATA_ROOT"):
        open_dataset(colours(), None)
    with pytest.raises(AxforgeError, match="is not there"):
        open_dataset(colours(), painted / "elsewhere")
    with pytest.raises(AxforgeError, match="names no dataset"):
        open_dataset(colours(dataset=None), painted)
    (painted / "colours" / "labels.txt").write_text("0.png red\n")
    with pytest.raises(AxforgeError, match=r"labels\.txt:1"):
        open_dataset(colours(), painted)
    (painted / "colours" / "labels.txt").write_text("\n")
    with pytest.raises(AxforgeError, match="empty"):
        open_dataset(colours(), painted)


def test_yolo_labels_become_pixels(tmp_path: Path) -> None:
    write_image(tmp_path / "d" / "images" / "val" / "a.png", fake_picture(200, 100, 0))
    write_image(tmp_path / "d" / "images" / "val" / "b.png", fake_picture(200, 100, 0))
    labels = tmp_path / "d" / "labels" / "val"
    labels.mkdir(parents=True)
    (labels / "a.txt").write_text("7 0.5 0.5 0.25 0.5\n")
    descriptor = colours(dataset={"type": "yolo", "path": "d"})
    first, second = open_dataset(descriptor, tmp_path)
    assert first.truth.boxes.tolist() == [[75, 25, 125, 75]]
    assert first.truth.class_ids.tolist() == [7]
    assert len(second.truth.boxes) == 0
    (labels / "a.txt").write_text("7 0.5 0.5\n")
    with pytest.raises(AxforgeError, match=r"a\.txt"):
        list(open_dataset(descriptor, tmp_path))


def test_coco_annotations_are_read_as_published(tmp_path: Path) -> None:
    write_image(tmp_path / "coco" / "val2017" / "b.png", fake_picture(200, 100, 0))
    write_image(tmp_path / "coco" / "val2017" / "a.png", fake_picture(200, 100, 1))
    document = {
        "images": [{"id": 9, "file_name": "b.png"}, {"id": 4, "file_name": "a.png"}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 18, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        ],
    }
    annotations = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    annotations.parent.mkdir()
    annotations.write_text(json.dumps(document))
    descriptor = colours(dataset={"type": "coco", "path": "coco"})
    first, second = open_dataset(descriptor, tmp_path)
    assert (first.name, len(first.truth.boxes)) == ("a.png", 0)
    assert second.truth.boxes.tolist() == [[10, 20, 40, 60], [0, 0, 5, 5]]
    assert second.truth.class_ids.tolist() == [1, 0]
    metric = MeanAveragePrecision()
    metric.add(found([[10, 20, 40, 60]], [1], [0.9]), second.truth, second.image)
    assert metric.values()["mAP50-95"] == pytest.approx(100.0), "a crowd that is not found costs nothing"
    annotations.write_text('{"images": []}')
    with pytest.raises(AxforgeError, match="not an annotation file of COCO"):
        open_dataset(descriptor, tmp_path)
    annotations.unlink()
    with pytest.raises(AxforgeError, match="cannot be read"):
        open_dataset(descriptor, tmp_path)


def test_a_dataset_of_another_task_is_refused(painted: Path) -> None:
    write_image(painted / "d" / "images" / "val" / "a.png", fake_picture(20, 10, 0))
    (painted / "d" / "labels" / "val").mkdir(parents=True)
    descriptor = colours(dataset={"type": "yolo", "path": "d"})
    with pytest.raises(AxforgeError, match="knows the boxes of each sample, and the pipeline gives classification"):
        evaluate(Pipeline(descriptor, Brightest()), open_dataset(descriptor, painted))


def engine_of(name: str, shared: Path) -> Pipeline:
    descriptor = load_descriptor(ZOO / name / "model.json")
    assert descriptor.source is not None
    assert descriptor.source.file is not None
    return Pipeline(descriptor, OnnxEngine(shared / descriptor.source.file, threads=1))


@pytest.mark.parametrize(
    ("name", "metric", "value", "limit"),
    [
        ("mobilenet_v2", "top-1", 79.1, None),
        ("ds_cnn_kws", "top-1", 90.1, None),
        ("resnet20_cifar10", "top-1", 76.2, None),
        ("deeplabv3_257", "mIoU of objects", 86.0, None),
        ("yolox_nano", "mAP50-95", 33.9, None),
        ("fastestdet", "mAP50-95", 18.3, None),
    ],
)
def test_fp32_models_reach_what_others_measured(shared: Path, name: str, metric: str, value: float, limit: int | None) -> None:
    pipeline = engine_of(name, shared)
    report = evaluate(pipeline, open_dataset(pipeline.descriptor, shared), limit=limit)
    assert report.metrics[metric] >= value - 0.1


def test_the_default_model_is_right_82_times_of_100(shared: Path, tmp_path: Path) -> None:
    efficientnet_lite0.build(None, tmp_path / "model.onnx")
    descriptor = load_descriptor(ZOO / "efficientnet_lite0-imagenet" / "model.json")
    pipeline = Pipeline(descriptor, OnnxEngine(tmp_path / "model.onnx", threads=1))
    assert evaluate(pipeline, open_dataset(descriptor, shared)).value == pytest.approx(82.0, abs=0.5)


def test_the_default_model_knows_a_military_uniform(tmp_path: Path) -> None:
    efficientnet_lite0.build(None, tmp_path / "model.onnx")
    descriptor = load_descriptor(ZOO / "efficientnet_lite0-imagenet" / "model.json")
    image = next(iter(open_source("sample:grace_hopper"))).image
    result = Pipeline(descriptor, OnnxEngine(tmp_path / "model.onnx", threads=1)).run(image)
    assert isinstance(result, Classification)
    assert result.labels[0] == "military uniform"


@pytest.mark.parametrize(
    ("name", "picture", "expected"),
    [
        ("yolox_nano", "bus.jpg", {"bus": 1, "person": 3}),
        ("yolox_nano", "zidane.jpg", {"person": 2}),
        ("fastestdet", "bus.jpg", {"bus": 1, "person": 3}),
        ("ultraface_rfb320", "zidane.jpg", {"face": 2}),
        ("ultraface_rfb320", "crowd.jpg", {"face": 15}),
    ],
)
def test_detectors_find_what_is_there(shared: Path, name: str, picture: str, expected: dict[str, int]) -> None:
    image = next(iter(open_source(str(shared / "images" / picture)))).image
    result = engine_of(name, shared).run(image)
    assert isinstance(result, Detections)
    for label, least in expected.items():
        assert result.labels.count(label) >= least


def test_the_person_in_the_bus_picture_is_where_the_person_is(shared: Path) -> None:
    image = next(iter(open_source(str(shared / "images" / "bus.jpg")))).image
    for name in ("yolox_nano", "fastestdet"):
        result = engine_of(name, shared).run(image)
        assert isinstance(result, Detections)
        people = result.boxes[[label == "person" for label in result.labels]]
        left_man = np.array([50, 398, 245, 905])  # by eye
        assert np.abs(people - left_man).max(axis=1).min() < 45


# --- the engine -----------------------------------------------------------------------------------------------------------------


def tiny(path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_the_onnx_engine_runs_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    engine = OnnxEngine(tiny(tmp_path / "t.onnx"), threads=1)
    assert engine.inputs == {"x": ((-1, 2), "float32")}
    assert engine.run({"x": np.float32([[-1, 2]])})["y"].tolist() == [[0, 2]]
    with pytest.raises(AxforgeError, match="input 'x' is missing"):
        engine.run({})
    with pytest.raises(AxforgeError, match=r"has shape \[3\] and must have \[-1, 2\]"):
        engine.run({"x": np.zeros(3, np.float32)})


def test_the_onnx_engine_refuses_what_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"this is no model")
    with pytest.raises(AxforgeError, match="cannot load"):
        OnnxEngine(tmp_path / "bad.onnx")
    with pytest.raises(AxforgeError, match="no such file"):
        OnnxEngine(tmp_path / "absent.onnx")
