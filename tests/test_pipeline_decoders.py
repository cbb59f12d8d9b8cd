"""Decoders of faces, poses, masks, oriented boxes, queries and peaks, each against a computation written one number at a time."""

import math
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline import steps  # noqa: F401 - all decoders are known, so that a sentence can name them
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.chain import finish, prepare
from axforge.axruntime.pipeline.heads import Head, Network
from axforge.axruntime.pipeline.postprocessing.centernet import DecodeCenterNet
from axforge.axruntime.pipeline.postprocessing.detr import DecodeDetr
from axforge.axruntime.pipeline.postprocessing.filter import Filter
from axforge.axruntime.pipeline.postprocessing.nms_rotated import NmsRotated, polygon_overlap
from axforge.axruntime.pipeline.postprocessing.retinaface import DecodeRetinaFace
from axforge.axruntime.pipeline.postprocessing.scrfd import DecodeScrfd
from axforge.axruntime.pipeline.postprocessing.yolo_obb import DecodeYoloObb
from axforge.axruntime.pipeline.postprocessing.yolo_pose import DecodeYoloPose
from axforge.axruntime.pipeline.postprocessing.yolo_segmentation import DecodeYoloSegmentation
from axforge.axruntime.pipeline.postprocessing.yolov8 import DecodeYolov8
from axforge.axruntime.pipeline.postprocessing.yunet import DecodeYuNet
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Decoder
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.masks import InstanceMask

Floats = NDArray[Any]
WIDTH, HEIGHT = 96, 64
CONTEXT = DecoderContext(prepare((), np.zeros((HEIGHT, WIDTH, 3), np.uint8)), ("cat", "dog", "bird"))
LETTERBOX = DecoderContext(prepare((Resize(width=64, height=64, letterbox=True),), np.zeros((40, 80, 3), np.uint8)), ("cat", "dog"))


def random(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def uniform(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).random(shape, np.float32)


def cells(*strides: int) -> list[tuple[int, int, int]]:
    """(stride, row, column) of all cells."""
    return [(s, y, x) for s in strides for y in range(math.ceil(HEIGHT / s)) for x in range(math.ceil(WIDTH / s))]


def same(found: Candidates, boxes: list[Any], scores: list[float], points: list[Any] | None = None) -> None:
    assert 3 < len(boxes) == len(found.scores)
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4)
    if points is not None:
        assert found.keypoints is not None
        np.testing.assert_allclose(found.keypoints[:, :, :2], points, rtol=1e-4, atol=1e-3)


def test_finished_boxes_are_taken_as_they_are() -> None:
    rows = np.float32([[[1, 2, 30, 40, 0.9, 2], [5, 5, 9, 9, 0.1, 0], [3, 4, 5, 6, 0.5, 1]]])
    result = finish((DecodeYolov8(classes=3),), {"y": rows}, CONTEXT)
    assert isinstance(result, Detections)
    assert (result.boxes.tolist(), result.labels) == ([[1, 2, 30, 40], [3, 4, 5, 6]], ("bird", "dog"))
    with pytest.raises(AxforgeError, match="gives class 2, and `classes` says that there are 2"):
        DecodeYolov8(classes=2)({"y": rows}, CONTEXT)


@pytest.mark.parametrize("softmax", [False, True])
def test_retinaface_is_that_of_its_project(softmax: bool) -> None:
    anchors = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
    rows = [(s, y, x, side) for s, y, x in cells(8, 16, 32) for side in anchors[s]]
    loc, land, conf = random(0, 1, len(rows), 4), random(1, 1, len(rows), 10), random(2, 1, len(rows), 2)
    boxes, scores, points = [], [], []
    for i, (s, y, x, side) in enumerate(rows):
        no, yes = (float(v) for v in conf[0, i])
        score = math.exp(yes) / (math.exp(yes) + math.exp(no)) if softmax else yes
        if score < 0.6:
            continue
        cx, cy, w, h = (x + 0.5) * s / WIDTH, (y + 0.5) * s / HEIGHT, side / WIDTH, side / HEIGHT
        tx, ty, tw, th = (float(v) for v in loc[0, i])
        mx, my, bw, bh = cx + tx * 0.1 * w, cy + ty * 0.1 * h, w * math.exp(tw * 0.2), h * math.exp(th * 0.2)
        boxes.append([(mx - bw / 2) * WIDTH, (my - bh / 2) * HEIGHT, (mx + bw / 2) * WIDTH, (my + bh / 2) * HEIGHT])
        scores.append(score)
        five = [float(v) for v in land[0, i]]
        points.append([[(cx + five[2 * k] * 0.1 * w) * WIDTH, (cy + five[2 * k + 1] * 0.1 * h) * HEIGHT] for k in range(5)])
    step = DecodeRetinaFace(confidence_threshold=0.6, softmax=softmax)
    same(step({"landmarks": land, "boxes": loc, "scores": conf}, CONTEXT), boxes, scores, points)


@pytest.mark.parametrize("batch", [False, True])
def test_scrfd_is_that_of_its_project(batch: bool) -> None:
    outputs, boxes, scores, points = {}, [], [], []
    for s in (8, 16, 32):
        mine = [(y, x) for _, y, x in cells(s) for _ in range(2)]
        score, distance, five = uniform(s, len(mine), 1), uniform(s + 1, len(mine), 4) * 4, random(s + 2, len(mine), 10)
        for name, value in (("points", five), ("score", score), ("box", distance)):
            outputs[f"{name}{s}"] = value[np.newaxis] if batch else value
        for i, (y, x) in enumerate(mine):
            if score[i, 0] >= 0.7:
                left, top, right, bottom = (float(v) * s for v in distance[i])
                boxes.append([x * s - left, y * s - top, x * s + right, y * s + bottom])
                scores.append(float(score[i, 0]))
                points.append([[x * s + float(five[i, 2 * k]) * s, y * s + float(five[i, 2 * k + 1]) * s] for k in range(5)])
    same(DecodeScrfd(confidence_threshold=0.7)(outputs, CONTEXT), boxes, scores, points)
    without = {name: value for name, value in outputs.items() if "points" not in name}
    assert DecodeScrfd(confidence_threshold=0.7)(without, CONTEXT).keypoints is None


def test_yunet_is_that_of_opencv() -> None:
    """The loops of OpenCV's FaceDetectorYN."""
    outputs, boxes, scores, points = {}, [], [], []
    for s in (8, 16, 32):
        mine = cells(s)
        for at, (name, width) in enumerate({"cls": 1, "obj": 1, "bbox": 4, "kps": 10}.items()):
            outputs[f"{name}_{s}"] = random(s + at, 1, len(mine), width) + np.float32(0.5 if width == 1 else 0)
        for i, (_, y, x) in enumerate(mine):
            cls, obj = (min(max(float(outputs[f"{name}_{s}"][0, i, 0]), 0.0), 1.0) for name in ("cls", "obj"))
            if math.sqrt(cls * obj) < 0.6:
                continue
            tx, ty, tw, th = (float(v) for v in outputs[f"bbox_{s}"][0, i])
            cx, cy, w, h = (x + tx) * s, (y + ty) * s, math.exp(tw) * s, math.exp(th) * s
            boxes.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
            scores.append(math.sqrt(cls * obj))
            five = [float(v) for v in outputs[f"kps_{s}"][0, i]]
            points.append([[(five[2 * k] + x) * s, (five[2 * k + 1] + y) * s] for k in range(5)])
    same(DecodeYuNet(confidence_threshold=0.6)(outputs, CONTEXT), boxes, scores, points)


def test_centernet_finds_the_peaks() -> None:
    heat, sizes, offsets = random(0, 1, 2, 16, 24), uniform(1, 1, 2, 16, 24) * 8, uniform(2, 1, 2, 16, 24)
    expected = []
    for c in range(2):
        for y in range(16):
            for x in range(24):
                around = heat[0, c, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
                score = 1 / (1 + math.exp(-float(heat[0, c, y, x])))
                if heat[0, c, y, x] == around.max() and score >= 0.7:
                    cx, cy = (x + float(offsets[0, 0, y, x])) * 4, (y + float(offsets[0, 1, y, x])) * 4
                    w, h = (float(v) * 4 for v in sizes[0, :, y, x])
                    expected.append((score, [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], c))
    expected.sort(key=lambda row: -row[0])
    found = DecodeCenterNet(classes=2, confidence_threshold=0.7)({"hm": heat, "wh": sizes, "reg": offsets}, CONTEXT)
    same(found, [box for _, box, _ in expected], [score for score, _, _ in expected])
    assert found.class_ids.tolist() == [c for _, _, c in expected]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_detr_gives_a_box_for_each_query_that_is_sure(activation: Any) -> None:
    logits, boxes = random(0, 1, 50, 3 + (activation == "softmax")) * 2, uniform(1, 1, 50, 4)
    expected, scores, classes = [], [], []
    for row, (cx, cy, w, h) in zip(logits[0].tolist(), boxes[0].tolist(), strict=True):
        if activation == "softmax":
            values = [math.exp(v) / sum(map(math.exp, row)) for v in row][:-1]
        else:
            values = [1 / (1 + math.exp(-v)) for v in row] if activation == "sigmoid" else row
        if max(values) >= 0.5:
            expected.append([(cx - w / 2) * WIDTH, (cy - h / 2) * HEIGHT, (cx + w / 2) * WIDTH, (cy + h / 2) * HEIGHT])
            scores.append(max(values))
            classes.append(values.index(max(values)))
    found = DecodeDetr(classes=3, activation=activation, confidence_threshold=0.5)({"logits": logits, "pred_boxes": boxes}, CONTEXT)
    same(found, expected, scores)
    assert found.class_ids.tolist() == classes


@pytest.mark.parametrize("dimensions", [2, 3])
def test_poses_are_boxes_with_points_in_the_source_picture(dimensions: Any) -> None:
    head = uniform(3, 1, 5 + 4 * dimensions, 20) * 64
    head[0, 4] /= 64
    step = DecodeYoloPose(keypoints=4, dimensions=dimensions, confidence_threshold=0.5)
    result = finish((step,), {"y": head}, LETTERBOX)
    assert isinstance(result, Detections)
    assert result.keypoints is not None
    rows = sorted((row for row in head[0].T.tolist() if row[4] >= 0.5), key=lambda row: -row[4])
    scale = 64 / 80  # 80x40 becomes 64x32, with 16 rows above
    for row, points in zip(rows, result.keypoints.tolist(), strict=True):
        for k, (x, y, confidence) in enumerate(points):
            given = row[5 + k * dimensions : 5 + (k + 1) * dimensions]
            assert (x, y) == pytest.approx((given[0] / scale, (given[1] - 16) / scale), abs=1e-4)
            assert confidence == pytest.approx(given[2] if dimensions == 3 else 1)
    documents = result.as_json()["detections"]
    assert isinstance(documents, list)
    assert documents[0]["keypoints"] == result.keypoints[0].tolist()
    assert not np.array_equal(result.draw(np.zeros((40, 80, 3), np.uint8)), np.zeros((40, 80, 3)))


def bilinear(plane: Floats, x: float, y: float) -> float:
    """The value at a point, the nearest one outside the plane."""
    height, width = plane.shape
    x0, y0 = math.floor(x), math.floor(y)
    fx, fy = x - x0, y - y0
    at = [[float(plane[min(max(y0 + j, 0), height - 1), min(max(x0 + i, 0), width - 1)]) for i in (0, 1)] for j in (0, 1)]
    return (at[0][0] * (1 - fx) + at[0][1] * fx) * (1 - fy) + (at[1][0] * (1 - fx) + at[1][1] * fx) * fy


@pytest.mark.parametrize("kind", ["columns", "rows", "finished"])
def test_masks_are_sums_of_prototypes_inside_their_boxes(kind: str) -> None:
    """Pixels whose sum is near 0 may fall to either side: OpenCV interpolates in steps of 1/32."""
    prototypes = cv2.GaussianBlur(random(0, 16, 16, 4), (5, 5), 2).transpose(2, 0, 1)[np.newaxis]
    coefficients = random(1, 2, 4) * 5
    boxes, scores = np.float32([[30, 30, 40, 20], [20, 28, 20, 16]]), np.float32([[0.9, 0.1], [0.2, 0.7]])
    if kind == "finished":
        corner = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
        head = np.concatenate([corner, scores.max(axis=1)[:, None], np.float32([[0], [1]]), coefficients], axis=1)[np.newaxis]
    elif kind == "rows":
        head = np.concatenate([boxes, np.ones((2, 1), np.float32), scores, coefficients], axis=1)[np.newaxis]
    else:
        head = np.concatenate([boxes, scores, coefficients], axis=1).T[np.newaxis]
    step = DecodeYoloSegmentation(classes=2, masks=4, objectness=kind == "rows")
    result = finish((step,), {"boxes": head, "prototypes": prototypes}, LETTERBOX)
    assert isinstance(result, Detections)
    assert result.masks is not None
    for i, mask in enumerate(result.masks):
        plane = sum(float(c) * p for c, p in zip(coefficients[i], prototypes[0], strict=True))
        left, top, right, bottom = result.boxes[i].tolist()
        full, compared = mask.full(), 0
        assert full.shape == (40, 80)
        for y in range(40):
            for x in range(80):
                if not (math.floor(left) <= x < math.ceil(right) and math.floor(top) <= y < math.ceil(bottom)):
                    assert not full[y, x]
                    continue
                value = bilinear(plane, (x + 0.5) * 0.8 / 4 - 0.5, ((y + 0.5) * 0.8 + 16) / 4 - 0.5)
                if abs(value) > 0.05:
                    compared += 1
                    assert full[y, x] == (value > 0)
        assert compared > 100


def test_a_mask_is_written_in_the_runs_of_coco() -> None:
    pixels = uniform(0, 5, 4) > 0.5
    mask = InstanceMask(2, 1, pixels, (9, 8))
    document = mask.as_json()
    assert isinstance(document["counts"], list)
    flat: list[bool] = []
    for i, count in enumerate(document["counts"]):
        flat += [i % 2 == 1] * count
    np.testing.assert_array_equal(np.array(flat).reshape(8, 9).T, mask.full())
    assert InstanceMask(0, 0, np.zeros((0, 0), bool), (2, 3)).as_json()["counts"] == [6]
    assert InstanceMask(0, 0, np.ones((2, 3), bool), (2, 3)).as_json()["counts"] == [0, 6]


def test_masks_run_as_pycocotools_has_them() -> None:
    coco = pytest.importorskip("faster_coco_eval.core.mask")
    mask = InstanceMask(1, 2, uniform(3, 6, 5) > 0.4, (11, 7))
    packed = coco.frPyObjects(mask.as_json(), 11, 7)
    np.testing.assert_array_equal(coco.decode(packed).astype(bool), mask.full())


def test_oriented_boxes_are_those_of_opencv() -> None:
    head = np.concatenate([uniform(0, 1, 2, 30) * 60, uniform(1, 1, 2, 30) * 30 + 2, uniform(2, 1, 2, 30), random(3, 1, 1, 30)], axis=1)
    found = DecodeYoloObb(classes=2, confidence_threshold=0.6)({"y": head}, CONTEXT)
    assert found.polygons is not None
    rows = [row for row in head[0].T.tolist() if max(row[4:6]) >= 0.6]
    assert 5 < len(rows) == len(found.scores)
    for (cx, cy, w, h, _, _, angle), polygon, hull in zip(rows, found.polygons, found.boxes, strict=True):
        expected = cv2.boxPoints(((cx, cy), (w, h), math.degrees(angle)))
        assert all(min(math.dist(corner, other) for other in expected.tolist()) < 1e-2 for corner in polygon.tolist())
        np.testing.assert_allclose(hull, [*expected.min(axis=0), *expected.max(axis=0)], atol=1e-2)


def test_finished_oriented_boxes_are_those_of_opencv() -> None:
    boxes = [uniform(0, 1, 30, 2) * 60, uniform(1, 1, 30, 2) * 30 + 2, uniform(2, 1, 30, 1)]
    head = np.concatenate([*boxes, np.arange(30, dtype=np.float32).reshape(1, 30, 1) % 3, random(3, 1, 30, 1)], axis=2)
    found = DecodeYoloObb(classes=3, confidence_threshold=0.5)({"y": head}, CONTEXT)
    assert found.polygons is not None
    rows = [row for row in head[0].tolist() if row[4] >= 0.5]
    assert 5 < len(rows) == len(found.scores)
    for (cx, cy, w, h, score, label, angle), polygon, i in zip(rows, found.polygons, range(len(rows)), strict=True):
        expected = cv2.boxPoints(((cx, cy), (w, h), math.degrees(angle)))
        assert all(min(math.dist(corner, other) for other in expected.tolist()) < 1e-2 for corner in polygon.tolist())
        assert (found.scores[i], found.class_ids[i]) == (np.float32(score), label)
    with pytest.raises(AxforgeError, match="gives class 2"):
        DecodeYoloObb(classes=2, confidence_threshold=0.5)({"y": head}, CONTEXT)


@pytest.mark.parametrize("shape, task, fits", [((1, 300, 7), "", True), ((1, 300, 7), "detect", False), ((1, 84, 7), "", False)])
def test_finished_oriented_boxes_are_recognised(shape: tuple[int, ...], task: str, fits: bool) -> None:
    found = DecodeYoloObb.fits(Network(64, 64, 3, (Head("y", shape),), task=task))
    assert (found is not None) == fits
    assert found is None or [step.tag() for step in found.steps] == ["decode_yolo_obb"]


@pytest.mark.parametrize("agnostic", [False, True])
def test_suppression_of_oriented_boxes_uses_their_own_overlap(agnostic: bool) -> None:
    head = np.concatenate([uniform(0, 1, 2, 60) * 40, uniform(1, 1, 2, 60) * 30 + 8, uniform(2, 1, 2, 60), random(3, 1, 1, 60)], axis=1)
    found = DecodeYoloObb(classes=2, confidence_threshold=0.3)({"y": head}, CONTEXT)
    assert found.polygons is not None
    shapes = [((r[0], r[1]), (r[2], r[3]), math.degrees(r[6])) for r in head[0].T.tolist() if max(r[4:6]) >= 0.3]
    kept: list[int] = []
    for i in sorted(range(len(shapes)), key=lambda i: -float(found.scores[i])):
        for k in kept:
            points = cv2.rotatedRectangleIntersection(shapes[i], shapes[k])[1]
            both = 0.0 if points is None else cv2.contourArea(cv2.convexHull(points))
            areas = sum(w * h for _, (w, h), _ in (shapes[i], shapes[k]))
            if (agnostic or found.class_ids[i] == found.class_ids[k]) and both / (areas - both) > 0.3:
                break
        else:
            kept.append(i)
    chosen = NmsRotated(iou_threshold=0.3, class_agnostic=agnostic)(found)
    assert 3 < len(kept) < len(shapes)
    np.testing.assert_array_equal(chosen.boxes, found.boxes[kept])
    with pytest.raises(AxforgeError, match="no angles"):
        NmsRotated()(Candidates(found.boxes, found.scores, found.class_ids))


def test_polygons_without_area_do_not_overlap() -> None:
    assert polygon_overlap(np.zeros((4, 2)), np.zeros((4, 2))) == 0
    square = np.float32([[0, 0], [4, 0], [4, 4], [0, 4]]) + 1e6
    assert polygon_overlap(square, np.add(square[::-1], (2, 0))) == pytest.approx(1 / 3)


def detections() -> Detections:
    boxes = np.array([[0, 0, 10, 10], [40, 20, 80, 60], [5, 5, 7, 9], [60, 0, 96, 30]], float)
    return Detections(boxes, np.array([0.9, 0.8, 0.6, 0.3]), np.array([0, 1, 0, 2]), ("cat", "dog", "cat", "bird"))


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (Filter(), [0, 1, 2, 3]),
        (Filter(classes=("cat", "bird")), [0, 2, 3]),
        (Filter(exclude=("cat",)), [1, 3]),
        (Filter(min_score=0.5), [0, 1, 2]),
        (Filter(min_width=5, max_height=35), [0, 3]),
        (Filter(region=((0.5, 0), (1, 0), (1, 1), (0.5, 1))), [1, 3]),
        (Filter(classes=("dog",), max_width=10), []),
    ],
)
def test_a_filter_keeps_what_meets_every_condition(step: Filter, kept: list[int]) -> None:
    found = step.follow({}, detections(), CONTEXT)
    np.testing.assert_array_equal(found.boxes, detections().boxes[kept])
    assert found.labels == tuple(detections().labels[i] for i in kept)


def test_a_filter_renames_and_refuses_unknown_labels() -> None:
    assert Filter(rename={"dog": "pet", "cat": "pet"}).follow({}, detections(), CONTEXT).labels == ("pet", "pet", "pet", "bird")
    with pytest.raises(AxforgeError, match="no class 'bord'") as caught:
        Filter(classes=("bord",)).follow({}, detections(), CONTEXT)
    assert "'bird'" in caught.value.fix


@pytest.mark.parametrize(
    ("step", "outputs", "fitting"),
    [
        (DecodeYolov8(classes=3), {"y": np.zeros((1, 4 * 3, 4), np.float32)}, ""),
        (DecodeYolov8(classes=8), {"y": np.zeros((1, 378, 8), np.float32)}, "decode_yolov5"),
        (DecodeYoloPose(), {"y": np.zeros((1, 7, 126), np.float32)}, "decode_yolov8"),
        (DecodeDetr(classes=3), {"logits": np.zeros((1, 50, 3)), "pred_boxes": np.zeros((1, 50, 4))}, ""),
        (
            DecodeDetr(classes=3, logits="a", boxes="b"),
            {"a": np.zeros((1, 252, 2)), "b": np.zeros((1, 252, 4)), "c": np.zeros((1, 252, 10))},
            "decode_retinaface",
        ),
        (DecodeRetinaFace(), {"y": np.zeros((1, 7, 126), np.float32)}, "decode_yolov8"),
        (DecodeYoloSegmentation(classes=3), {"y": np.zeros((1, 7, 126), np.float32)}, "decode_yolov8"),
    ],
)
def test_a_head_of_another_decoder_is_answered_with_its_name(step: Decoder, outputs: Any, fitting: str) -> None:
    with pytest.raises(AxforgeError, match="has shape") as caught:
        step.follow(outputs, None, CONTEXT)
    assert fitting in caught.value.fix
    assert caught.value.where == f"postprocessing: {step.tag()}"


@pytest.mark.parametrize("step", [DecodeScrfd(), DecodeYuNet(), DecodeCenterNet(classes=2), DecodeYoloObb(classes=2)])
def test_outputs_that_do_not_fit_are_sentences(step: BoxDecoder) -> None:
    for outputs in ({"hm": np.zeros((1, 2, 3)), "wh": np.zeros(2), "reg": np.zeros(0)}, {"y": np.zeros(())}, {"cls_8": np.zeros((3, 1))}):
        with pytest.raises(AxforgeError) as caught:
            step.follow(outputs, None, CONTEXT)
        assert caught.value.where == f"postprocessing: {step.tag()}"
