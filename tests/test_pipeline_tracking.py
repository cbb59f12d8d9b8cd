"""Tracking: its parts against textbook versions, its ids against sequences with labels, and a real video."""

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.engines.factory import open_engine
from axforge.axruntime.media.opening import open_sink, open_source
from axforge.axruntime.media.source import Frame
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext, StreamMemory
from axforge.axruntime.pipeline.chain import finish, prepare
from axforge.axruntime.pipeline.descriptor import load_descriptor, parse_descriptor
from axforge.axruntime.pipeline.pipeline import Pipeline
from axforge.axruntime.pipeline.postprocessing.tracker import Track
from axforge.axruntime.pipeline.postprocessing.yolov8 import DecodeYolov8
from axforge.axruntime.pipeline.tracking.association import best_pairs
from axforge.axruntime.pipeline.tracking.kalman import Motion
from axforge.axruntime.results.detections import Detections

scipy_optimize = pytest.importorskip("scipy.optimize", reason="judges the pairing")
Array = NDArray[Any]
ALGORITHMS = ("bytetrack", "ocsort", "sort")
ROOT = Path(__file__).resolve().parents[1]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_pairs_gain_as_much_as_scipys(rows: int, columns: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    gain = np.where(rng.random((rows, columns)) < share, rng.integers(-3, 9, (rows, columns)) / 4, 0)
    mine = best_pairs(gain)
    assert len(set(mine[0])) == len(mine[0])
    assert len(set(mine[1])) == len(mine[1])
    assert (gain[mine] > 0).all()
    positive = np.maximum(gain, 0)
    best = positive[scipy_optimize.linear_sum_assignment(positive, maximize=True)].sum()
    assert gain[mine].sum() == pytest.approx(best)


def test_a_crowd_is_paired_as_well_as_scipy_pairs_it() -> None:
    gain = np.random.default_rng(5).random((120, 150)) - 0.2
    positive = np.maximum(gain, 0)
    best = positive[scipy_optimize.linear_sum_assignment(positive, maximize=True)].sum()
    assert gain[best_pairs(gain)].sum() == pytest.approx(best)


def test_motion_is_the_textbook_filter_with_its_8x8_matrices() -> None:
    rng = np.random.default_rng(3)
    start, first, first_velocity = rng.normal(size=4), rng.uniform(1, 2, 4), rng.uniform(1, 9, 4)
    motion = Motion(start[np.newaxis], first, first_velocity)
    state, covariance = np.concatenate([start, np.zeros(4)]), np.diag(np.concatenate([first, first_velocity]))
    step, see = np.eye(8) + np.eye(8, k=4), np.eye(4, 8)
    for _ in range(30):
        noise, velocity_noise, measured_noise, measured = (rng.uniform(0.1, 1, 4) for _ in range(4))
        motion.predict(noise, velocity_noise)
        state, covariance = step @ state, step @ covariance @ step.T + np.diag(np.concatenate([noise, velocity_noise]))
        motion.update(np.array([0]), measured[np.newaxis], measured_noise)
        gain = covariance @ see.T @ np.linalg.inv(see @ covariance @ see.T + np.diag(measured_noise))
        state, covariance = state + gain @ (measured - see @ state), (np.eye(8) - gain @ see) @ covariance
        assert np.allclose(np.concatenate([motion.position[0], motion.velocity[0]]), state)
        assert np.allclose(motion.velocity_variance[0], np.diag(covariance)[4:])
        assert np.allclose(motion.covariance[0], np.diag(covariance, 4))


def sequence(frames: int = 200, objects: int = 12, seed: int = 1) -> list[tuple[Array, Array, Array]]:
    """Objects that cross a picture of 960 x 540 on smooth ways, some hidden for a while: boxes, scores, true ids of each frame.

    Boxes are jittered, one in twenty is missed, hidden objects get low scores, and there are false alarms with the id -1.
    """
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform([80, 80], [880, 460], (objects, 2)), rng.normal(0, 2.0, (objects, 2))
    size = rng.uniform(30, 70, (objects, 2))
    made = []
    for frame in range(frames):
        place += speed + rng.normal(0, 0.3, (objects, 2))
        speed = np.where((place < 40) | (place > np.array([920, 500])), -np.sign(place - 300) * np.abs(speed), speed)
        hidden = (frame // 25 + np.arange(objects)) % 6 == 0
        seen = rng.random(objects) > 0.05
        corners = np.concatenate([place - size / 2, place + size / 2], axis=1) + rng.normal(0, 1.0, (objects, 4))
        scores = np.where(hidden, rng.uniform(0.15, 0.4, objects), rng.uniform(0.65, 0.95, objects))
        alarms = rng.uniform([0, 0], [900, 480], (rng.poisson(0.3), 2))
        boxes = np.concatenate([corners[seen], np.concatenate([alarms, alarms + 40], axis=1)])
        truth = np.concatenate([np.flatnonzero(seen), np.full(len(alarms), -1)])
        made.append((boxes, np.concatenate([scores[seen], rng.uniform(0.2, 0.65, len(alarms))]), truth))
    return made


def mota_and_idf1(frames: list[tuple[Array, Array]]) -> tuple[float, float]:
    """CLEAR-MOT accuracy and IDF1 of (true ids, given ids) of the boxes of each frame; -1 is no object, or no track."""
    wrong = total = given_ids = 0
    before: dict[int, int] = {}
    together: Counter[tuple[int, int]] = Counter()
    for truth, ids in frames:
        total += int((truth >= 0).sum())
        given_ids += int((ids >= 0).sum())
        wrong += int(((truth >= 0) != (ids >= 0)).sum())
        for true, track in zip(truth.tolist(), ids.tolist(), strict=True):
            if true >= 0 and track >= 0:
                wrong += before.get(true, track) != track
                before[true] = track
                together[true, track] += 1
    counts = np.zeros((max(t for t, _ in together) + 1, max(i for _, i in together) + 1))
    for pair, count in together.items():
        counts[pair] = count
    same = counts[scipy_optimize.linear_sum_assignment(counts, maximize=True)].sum()
    return 1 - wrong / total, 2 * same / (total + given_ids)


@pytest.mark.parametrize(("algorithm", "mota", "idf1"), [("bytetrack", 0.95, 0.96), ("ocsort", 0.80, 0.82), ("sort", 0.80, 0.82)])
def test_ids_follow_labelled_objects(algorithm: Any, mota: float, idf1: float) -> None:
    figures = []
    for seed in range(3):
        tracker = Track(algorithm=algorithm).new()
        frames = [(truth, tracker.update(boxes, scores, np.zeros(len(boxes), np.int64))) for boxes, scores, truth in sequence(seed=seed)]
        figures.append(mota_and_idf1(frames))
    found = np.mean(figures, axis=0)
    assert found[0] >= mota, found
    assert found[1] >= idf1, found


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_object_that_hides_and_comes_back_keeps_its_number(algorithm: Any) -> None:
    tracker, ids = Track(algorithm=algorithm).new(), []
    for frame in range(60):
        boxes = np.array([[10 + 3.0 * frame, 20, 60 + 3.0 * frame, 90]])
        there = not 30 <= frame < 40
        ids += tracker.update(boxes[:there], np.full(int(there), 0.9), np.zeros(int(there), np.int64)).tolist()
    assert set(ids) == {1}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_object_that_is_away_too_long_is_another_one(algorithm: Any) -> None:
    tracker, box = Track(algorithm=algorithm, max_age=5).new(), np.array([[10.0, 20, 60, 90]])
    nothing = np.zeros(0)
    for _ in range(5):
        ids = tracker.update(box, np.array([0.9]), np.array([0]))
    for _ in range(7):
        tracker.update(np.zeros((0, 4)), nothing, nothing.astype(np.int64))
    for _ in range(5):
        again = tracker.update(box, np.array([0.9]), np.array([0]))
    assert ids.tolist() == [1]
    assert again.tolist() == [2]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_boxes_of_no_size_and_of_other_classes(algorithm: Any) -> None:
    tracker = Track(algorithm=algorithm, class_agnostic=False).new()
    boxes = np.array([[5.0, 5, 5, 5], [0, 0, 0, 40], [10, 10, 50, 50]])
    numbers: list[set[int]] = [set(), set()]
    for frame in range(8):
        with np.errstate(all="raise"):
            ids = tracker.update(boxes, np.full(3, 0.9), np.array([0, 0, frame % 2]))
        numbers[frame % 2].add(int(ids[2]))
    assert numbers[0] & numbers[1] <= {-1}, "a box whose class changes is another object when classes count"


def test_one_line_of_model_json_tracks() -> None:
    text = b'{"name": "m", "preprocessing": [], "postprocessing": [{"type": "decode_yolov8", "classes": 2}, {"type": "tracker"}]}'
    chain = parse_descriptor(text, "model.json").postprocessing
    memory, given_ids = StreamMemory(), []
    for frame in range(4):
        head = np.zeros((1, 6, 3), np.float32)
        head[0, :, 1] = [30 + frame, 30, 20, 20, 0.1, 0.9]
        context = DecoderContext(prepare((), np.zeros((64, 64, 3), np.uint8)), ("cat", "dog"), memory)
        found = finish(chain, {"o": head}, context)
        assert isinstance(found, Detections)
        assert found.track_ids is not None
        given_ids += found.track_ids.tolist()
    assert given_ids == [1, 1, 1, 1]


def test_pictures_by_themselves_remember_nothing() -> None:
    chain = (DecodeYolov8(classes=2), Track())
    head = np.zeros((1, 6, 1), np.float32)
    head[0, :, 0] = [30, 30, 20, 20, 0.1, 0.9]
    for side in (64, 80):
        found = finish(chain, {"o": head}, DecoderContext(prepare((), np.zeros((side, side, 3), np.uint8))))
        assert isinstance(found, Detections)
        assert found.track_ids is not None
        assert found.track_ids.tolist() == [1]


def test_a_tracker_needs_boxes() -> None:
    with pytest.raises(AxforgeError, match="Put a decode step before it"):
        finish((Track(),), {"o": np.zeros((1, 3))}, DecoderContext(prepare((), np.zeros((8, 8, 3), np.uint8))))


def test_the_detectors_own_boxes_stay() -> None:
    boxes = np.array([[1, 2, 30, 40], [3, 4, 20, 25.0]], np.float32)
    found = Track().follow(
        {}, Candidates(boxes, np.array([0.9, 0.2]), np.array([0, 1])), DecoderContext(prepare((), np.zeros((64, 64, 3))))
    )
    assert found.boxes.tolist() == boxes.tolist()
    assert found.scores.tolist() == [0.9, 0.2]
    assert found.track_ids is not None
    assert found.track_ids.tolist() == [1, -1]


def test_numbers_are_drawn_and_written(tmp_path: Path) -> None:
    labels, boxes = ("cat", "dog"), np.array([[5, 25, 150, 90], [10, 100, 180, 190.0]])
    plain = Detections(boxes, np.array([0.9, 0.8]), np.array([0, 1]), labels)
    tracked = Detections(boxes, np.array([0.9, 0.8]), np.array([0, 1]), labels, np.array([7, -1]))
    image = np.zeros((200, 200, 3), np.uint8)
    assert (plain.draw(image) != tracked.draw(image)).any()
    source = open_source("fakevideo:200x200", frames=1)
    for name in ("a.json", "a.csv"):
        with open_sink(tmp_path / name, source, {}) as sink:
            sink.add(Frame(0, "f", image), tracked)
    rows = json.loads((tmp_path / "a.json").read_text())["frames"][0]["result"]["detections"]
    assert [row["track_id"] for row in rows] == [7, None]
    with (tmp_path / "a.csv").open() as file:
        assert [row["track"] for row in csv.DictReader(file)] == ["7", ""]
    assert "track_id" not in str(plain.as_json())


def test_bottles_of_a_real_video_keep_their_numbers(shared: Path) -> None:
    """In the first 120 frames three bottles stand on a table."""
    descriptor = load_descriptor(ROOT / "ax_models" / "yolox_nano" / "model.json")
    bottle, spans = descriptor.label_names.index("bottle"), defaultdict[int, list[int]](list)
    network = Pipeline(descriptor, open_engine("onnx", shared / "models" / "yolox_nano.onnx", threads=1), StreamMemory())
    track = Track().new()
    for frame in open_source(str(shared / "data" / "video" / "bottle-detection.mp4"), frames=120):
        found = network.run(frame.image)
        assert isinstance(found, Detections)
        for number, class_id in zip(track.update(found.boxes, found.scores, found.class_ids).tolist(), found.class_ids, strict=True):
            if number >= 0 and class_id == bottle:
                spans[number].append(frame.index)
    assert len(spans) == 3
    assert all(len(seen) > 114 for seen in spans.values()), {number: len(seen) for number, seen in spans.items()}


@pytest.mark.parametrize(("algorithm", "peer"), [("bytetrack", "ByteTrackTracker"), ("ocsort", "OCSORTTracker"), ("sort", "SORTTracker")])
def test_another_library_groups_the_boxes_alike(algorithm: Any, peer: str) -> None:
    trackers = pytest.importorskip("trackers", reason="needs the package trackers, installed without its OpenCV")
    supervision = pytest.importorskip("supervision")
    mine, other, pairs = Track(algorithm=algorithm, confidence_threshold=0.6).new(), getattr(trackers, peer)(), Counter[tuple[int, int]]()
    for boxes, scores, _ in sequence(objects=6):
        ids = mine.update(boxes, scores, np.zeros(len(boxes), np.int64))
        found = supervision.Detections(
            xyxy=boxes, confidence=scores, class_id=np.zeros(len(boxes), int), data={"row": np.arange(len(boxes))}
        )
        theirs = other.update(found)
        for row, number in zip(theirs.data["row"].tolist(), theirs.tracker_id.tolist(), strict=True):
            if number >= 0 and ids[row] >= 0:
                pairs[int(ids[row]), number] += 1
    table = np.zeros((max(a for a, _ in pairs) + 1, max(b for _, b in pairs) + 1))
    for pair, count in pairs.items():
        table[pair] = count
    same = table[scipy_optimize.linear_sum_assignment(table, maximize=True)].sum() / table.sum()
    assert same > 0.85
