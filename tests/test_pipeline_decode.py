"""Decoders: outputs made from known boxes give those boxes back; raw maps and exported heads say the same."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.boxes import overlaps
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.chain import finish, prepare
from axforge.axruntime.pipeline.postprocessing.fastestdet import DecodeFastestDet
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.postprocessing.semantic_segmentation import SemanticSegmentation
from axforge.axruntime.pipeline.postprocessing.super_resolution import SuperResolution
from axforge.axruntime.pipeline.postprocessing.topk import TopK
from axforge.axruntime.pipeline.postprocessing.ultraface import DecodeUltraFace
from axforge.axruntime.pipeline.postprocessing.yolov5 import DecodeYolov5
from axforge.axruntime.pipeline.postprocessing.yolov8 import DecodeYolov8
from axforge.axruntime.pipeline.postprocessing.yolox import DecodeYolox
from axforge.axruntime.pipeline.step import PostStep
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.picture import Picture
from axforge.axruntime.results.tensors import Tensors

Array = NDArray[Any]
SIDE = 64
LABELS = ("cat", "dog", "owl")


def run(chain: tuple[PostStep, ...], outputs: dict[str, Array], side: int = SIDE) -> Any:
    prepared = prepare((), np.zeros((side, side, 3), np.uint8))
    return finish(chain, outputs, DecoderContext(prepared, LABELS))


def logit(p: Array | float) -> Any:
    return np.log(p) - np.log1p(-np.asarray(p))


def one(found: Detections) -> tuple[list[float], int, float]:
    assert len(found) == 1
    return found.boxes[0].tolist(), int(found.class_ids[0]), float(found.scores[0])


def test_yolov5_reads_its_exported_head() -> None:
    rows = np.zeros((1, 5, 8), np.float32)
    rows[0, 3] = [20, 30, 10, 20, 0.9, 0.1, 0.8, 0.2]
    box, class_id, score = one(run((DecodeYolov5(classes=3),), {"out": rows}))
    assert box == [15, 20, 25, 40]
    assert class_id == 1
    assert score == pytest.approx(0.72)


def test_yolov5_raw_maps_follow_the_published_formula() -> None:
    step = DecodeYolov5(classes=3, anchors=((10, 20, 30, 40), (50, 60, 70, 80)))
    fine, coarse = np.full((1, 16, 8, 8), -12, np.float32), np.full((1, 16, 4, 4), -12, np.float32)
    # second anchor of the coarse map (70 x 80), cell x=1, y=2, stride 16
    cell = coarse[0].reshape(2, 8, 4, 4)[1, :, 2, 1]
    cell[:] = logit(np.array([0.75, 0.5, 0.5, 0.25, 0.9, 0.1, 0.1, 0.8]))
    box, class_id, score = one(run((step,), {"fine": fine, "coarse": coarse}))
    center, size = ((2 * 0.75 - 0.5 + 1) * 16, (2 * 0.5 - 0.5 + 2) * 16), (70, 0.25 * 80)
    expected = np.clip([center[0] - size[0] / 2, center[1] - size[1] / 2, center[0] + size[0] / 2, center[1] + size[1] / 2], 0, SIDE)
    assert np.allclose(box, expected, atol=1e-3)
    assert (class_id, score) == (2, pytest.approx(0.72, abs=1e-4))
    swapped = one(run((step,), {"coarse": coarse, "fine": fine}))
    assert swapped == (box, class_id, score)


def test_yolov8_raw_maps_say_the_same_as_the_exported_head() -> None:
    head = np.zeros((1, 7, 5), np.float32)
    head[0, :, 2] = [28, 36, 24, 40, 0.1, 0.2, 0.6]
    raw = np.full((1, 4 * 16 + 3, 8, 8), -12, np.float32)
    y, x, stride = 4, 3, 8
    sides = [(x + 0.5) - 16 / 8, (y + 0.5) - 16 / 8, 40 / 8 - (x + 0.5), 56 / 8 - (y + 0.5)]
    for side, distance in enumerate(sides):  # a distance between two bins, shared by both
        low = int(distance)
        bins = raw[0, 16 * side : 16 * side + 16, y, x]
        bins[low : low + 2] = np.log([1 - (distance - low) + 1e-9, distance - low + 1e-9])
        bins[:low], bins[low + 2 :] = -60, -60
    raw[0, 64:, y, x] = logit(np.array([0.1, 0.2, 0.6]))
    exported, cut = (one(run((DecodeYolov8(classes=3),), {"o": o})) for o in (head, raw))
    assert exported[0] == [16, 16, 40, 56]
    assert np.allclose(cut[0], exported[0], atol=1e-3)
    assert cut[1:] == (2, pytest.approx(0.6, abs=1e-5))
    assert stride * 8 == SIDE


def test_yolox_counts_cells_level_by_level() -> None:
    cells = 8 * 8 + 4 * 4 + 2 * 2
    rows = np.zeros((1, cells, 8), np.float32)
    rows[0, 64 + 4 * 2 + 3] = [0.5, 0.25, np.log(2), np.log(3), 0.9, 0, 0.5, 0]  # level of stride 16, x=3, y=2
    box, class_id, score = one(run((DecodeYolox(classes=3),), {"o": rows}))
    assert np.allclose(box, [3.5 * 16 - 16, 2.25 * 16 - 24, 64, 2.25 * 16 + 24], atol=1e-4)
    assert (class_id, score) == (1, pytest.approx(0.45))


def test_fastestdet_weighs_objectness_and_class() -> None:
    maps = np.zeros((1, 8, 4, 4), np.float32)
    maps[0, :, 1, 2] = [0.5, np.arctanh(0.5), 0, logit(0.25), logit(0.5), 0, 0.8, 0]
    box, class_id, score = one(run((DecodeFastestDet(classes=3),), {"o": maps}))
    assert np.allclose(box, [2.5 * 16 - 8, 16 - 16, 2.5 * 16 + 8, 16 + 16], atol=1e-4)
    assert (class_id, score) == (1, pytest.approx(0.5**0.6 * 0.8**0.4))


def test_ultraface_finds_its_outputs_by_name() -> None:
    scores, boxes = np.float32([[[0.1, 0.9], [0.8, 0.2]]]), np.float32([[[0.25, 0.5, 0.5, 0.75], [0, 0, 1, 1]]])
    found = run((DecodeUltraFace(confidence_threshold=0.5),), {"boxes": boxes, "scores": scores})
    assert one(found) == ([16, 32, 32, 48], 0, pytest.approx(0.9))
    with pytest.raises(AxforgeError, match="no output 'scores'"):
        run((DecodeUltraFace(),), {"boxes": boxes, "s": scores})


@pytest.mark.parametrize(
    ("step", "shape"),
    [
        (DecodeYolov5(classes=80), (1, 25200, 84)),
        (DecodeYolov5(classes=80), (1, 200, 8, 8)),
        (DecodeYolov8(classes=80), (1, 8400, 84)),
        (DecodeYolox(classes=80), (1, 3549, 85)),
        (DecodeFastestDet(classes=80), (1, 84, 4, 4)),
        (TopK(), (2, 10)),
        (TopK(skip=10), (1, 10)),
        (SemanticSegmentation(), (21, 4, 4)),
        (SuperResolution(), (1, 3, 4, 4)),
    ],
)
def test_an_output_of_another_shape_is_refused(step: PostStep, shape: tuple[int, ...]) -> None:
    with pytest.raises(AxforgeError, match="has shape"):
        run((step,), {"o": np.zeros(shape, np.float32)})


def test_two_outputs_for_a_step_that_takes_one_are_refused() -> None:
    with pytest.raises(AxforgeError, match="takes one output and the network has 2: a, b"):
        run((TopK(),), {"a": np.zeros((1, 3)), "b": np.zeros((1, 3))})


def test_multi_label_gives_a_box_once_for_each_likely_class() -> None:
    rows = np.float32([[[20, 30, 10, 20, 1.0, 0.5, 0.6, 0.1]]])
    found = run((DecodeYolov5(classes=3, multi_label=True),), {"o": rows})
    assert found.class_ids.tolist() == [1, 0]
    assert found.labels == ("dog", "cat")


def test_top_k_gives_probabilities_best_first_and_skips_the_background() -> None:
    logits = np.float32([[9, 1, 3, 2]])
    found = run((TopK(k=2, softmax=True, skip=1),), {"o": logits})
    weights = np.exp([9.0, 1, 3, 2])
    assert found.class_ids == (1, 2)
    assert found.labels == ("dog", "owl")
    assert found.scores == pytest.approx((weights[2] / weights.sum(), weights[3] / weights.sum()))


def test_ties_go_to_the_lower_class() -> None:
    assert run((TopK(k=3),), {"o": np.float32([[0.5, 0.5, 0.5]])}).class_ids == (0, 1, 2)


def test_without_postprocessing_the_outputs_come_out() -> None:
    found = run((), {"o": np.arange(4.0)})
    assert isinstance(found, Tensors)
    assert found.values["o"].tolist() == [0, 1, 2, 3]


def test_nms_without_boxes_is_an_error() -> None:
    with pytest.raises(AxforgeError, match="no boxes to choose from"):
        run((Nms(),), {"o": np.zeros(3)})


BOXES = st.lists(st.tuples(*[st.integers(0, 30)] * 4, st.integers(0, 2), st.integers(1, 1000)), min_size=0, max_size=25)


def candidates(rows: list[tuple[int, ...]]) -> Candidates:
    table = np.array(rows, np.float64).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1).astype(np.float32)
    return Candidates(boxes, (table[:, 5] / 1000).astype(np.float32), table[:, 4].astype(np.int64))


@given(rows=BOXES, threshold=st.sampled_from([0.0, 0.3, 0.5, 0.9]), agnostic=st.booleans())
@settings(max_examples=150)
def test_nms_is_the_textbook_loop(rows: list[tuple[int, ...]], threshold: float, agnostic: bool) -> None:
    found = candidates(rows)
    kept: list[int] = []
    for i in np.argsort(-found.scores, kind="stable").tolist():
        rivals = [k for k in kept if agnostic or found.class_ids[k] == found.class_ids[i]]
        if all(_slow_iou(found.boxes[i], found.boxes[k]) <= threshold for k in rivals):
            kept.append(i)
    got = Nms(iou_threshold=threshold, class_agnostic=agnostic)(found)
    assert sorted(map(tuple, _rows(got))) == sorted(map(tuple, _rows(found.take(np.array(kept, np.int64)))))
    assert (np.diff(got.scores) <= 0).all()


def _rows(found: Candidates) -> list[list[float]]:
    return np.column_stack([found.boxes, found.scores, found.class_ids]).tolist()


def _slow_iou(a: Array, b: Array) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    both = float(wide) * float(high) if wide > 0 and high > 0 else 0.0
    total = float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])) - both
    return both / total if total > 0 else 0.0


def test_iou_of_known_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float64)
    assert overlaps(boxes[:1], boxes)[0].tolist() == [1.0, pytest.approx(1 / 3), 0.0, 0.0]
    assert overlaps(boxes[3:4], boxes[3:])[0].tolist() == [0.0]


def test_at_most_max_detections_remain() -> None:
    found = candidates([(3 * i, 0, 1, 1, i % 3, i + 1) for i in range(20)])
    assert Nms(max_detections=7)(found).scores.tolist() == pytest.approx([i / 1000 for i in range(20, 13, -1)])


def test_segmentation_lies_over_the_source_pixel_by_pixel() -> None:
    scores = np.zeros((1, 3, 8, 8), np.float32)
    scores[0, 0] = 0.5
    scores[0, 2, 2:6, 4:] = 1.0
    found = run((SemanticSegmentation(),), {"o": scores})
    truth = np.zeros((SIDE, SIDE), np.uint8)
    truth[16:48, 32:] = 2
    assert found.mask.shape == (SIDE, SIDE)
    assert (found.mask == truth).mean() > 0.95
    runs = np.array(found.runs())
    assert np.array_equal(np.repeat(runs[:, 0], runs[:, 1]).reshape(SIDE, SIDE), found.mask)


def test_super_resolution_keeps_the_colour_and_takes_the_luminance() -> None:
    prepared = prepare((), np.full((SIDE, SIDE, 3), (200, 100, 50), np.uint8))
    luminance = np.full((1, 1, 3 * SIDE, 3 * SIDE), (0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255, np.float32)
    found = SuperResolution()({"o": luminance}, DecoderContext(prepared))
    assert isinstance(found, Picture)
    assert found.image.shape == (192, 192, 3)
    assert np.abs(found.image.astype(int) - [200, 100, 50]).max() <= 3
