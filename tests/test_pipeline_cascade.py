"""A model that runs another one on the regions it finds: the step, compiled folders and bundles of both, and every engine."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from deployed_models import CLASSIFIER, DETECTOR, classifier, detector, photo, publish
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.deployed.bundle import bundled, write_bundle
from axforge.axruntime.deployed.seal import published_json
from axforge.axruntime.model import Model
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.chain import prepare
from axforge.axruntime.pipeline.postprocessing.reading_order import ReadingOrder
from axforge.axruntime.pipeline.postprocessing.run_model import RunModel
from axforge.axruntime.pipeline.regions import straightened, upright
from axforge.axruntime.results.classification import Classification
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.masks import InstanceMask
from axforge.axruntime.results.result import PipelineResult, annotate
from axforge.axruntime.results.text import Text

Floats = NDArray[Any]
PICTURE = np.random.default_rng(1).integers(0, 255, (60, 80, 3), dtype=np.uint8)


class Sees:
    """A model that keeps the regions it was given."""

    def __init__(self, result: PipelineResult) -> None:
        self.result, self.seen = result, list[Floats]()

    def run(self, image: Floats) -> PipelineResult:
        self.seen.append(image)
        return self.result


def detections(boxes: list[list[float]], scores: list[float], polygons: Floats | None = None) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, float).reshape(-1, 4), np.array(scores), np.arange(n) % 2, ("cat", "dog") * n, polygons=polygons
    ).take(np.arange(n))


def run(step: RunModel, found: Any, *models: PipelineResult, picture: Floats = PICTURE) -> tuple[Detections, Sees]:
    sees = Sees(models[0] if models else Text("seen", (0.5,)))
    context = DecoderContext(prepare((), picture), ("cat", "dog"), models={step.model: sees})
    return step.follow({}, found, context), sees


def test_each_box_is_looked_at_and_keeps_what_was_said() -> None:
    found, sees = run(RunModel(model="reader"), detections([[10.2, 5, 30, 20.5], [0, 0, 80, 60]], [0.9, 0.8]))
    assert [image.shape for image in sees.seen] == [(16, 20, 3), (60, 80, 3)]
    np.testing.assert_array_equal(sees.seen[0], PICTURE[5:21, 10:30])
    assert [row["parts"]["reader"]["text"] for row in found.as_json()["detections"]] == ["seen", "seen"]  # type: ignore[index, attr-defined]
    assert found.table().head()[0] == "reader"
    assert found.table().texts()[0][:2] == ["seen", "cat"]
    assert (annotate(PICTURE, found) != PICTURE).any()
    assert found.take(np.array([1])).parts["reader"] == found.parts["reader"][1:]


def test_conditions_choose_and_the_best_come_first() -> None:
    boxes, scores = [[float(i), 0.0, i + 9.0, 9.0] for i in range(6)], [0.3, 0.9, 0.5, 0.2, 0.7, 0.8]
    found, _ = run(RunModel(model="reader", classes=("cat",), min_score=0.3, max_regions=2), detections(boxes, scores))
    assert [result is not None for result in found.parts["reader"]] == [False, False, True, False, True, False]
    found, sees = run(RunModel(model="reader", margin=0.5), detections([[20, 20, 30, 40]], [0.9]))
    assert sees.seen[0].shape == (40, 20, 3)


def test_boxes_without_pixels_are_not_looked_at() -> None:
    boxes = [[5.0, 5.0, 5.0, 9.0], [80.0, 60.0, 90.0, 70.0], [np.nan, 0, 1, 1], [0.0, 0.0, 1.0, 1.0]]
    found, sees = run(RunModel(model="reader"), detections(boxes, [0.9] * 4))
    assert [result is None for result in found.parts["reader"]] == [True, True, True, False]
    assert sees.seen[0].shape == (1, 1, 3)
    nothing, _ = run(RunModel(model="reader"), detections([], []), picture=np.zeros((1, 1, 3), np.uint8))
    assert len(nothing) == 0
    assert nothing.as_json() == {"type": "detections", "detections": []}


def corners(center: tuple[float, float], size: tuple[float, float], degrees: float) -> Floats:
    turn = cv2.getRotationMatrix2D((0, 0), -degrees, 1)[:, :2]
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array(size) / 2
    return np.asarray(half @ turn.T + center)


def test_a_turned_region_is_straightened() -> None:
    sheet = np.zeros((24, 60, 3), np.uint8)
    sheet[:, :30], sheet[12:, :] = (200, 0, 0), (0, 0, 200)
    for degrees in (0, 30, -75, 180):
        quad = corners((100, 100), (60, 24), degrees)
        matrix = cv2.getPerspectiveTransform(np.float32([[0, 0], [60, 0], [60, 24], [0, 24]]), np.float32(quad))
        picture = cv2.warpPerspective(sheet, matrix, (200, 200), flags=cv2.INTER_LINEAR)
        region = straightened(picture, quad, 0.0)
        assert region is not None
        assert region.image.shape == sheet.shape
        inner = np.abs(region.image[3:9, 3:27].astype(int) - sheet[3:9, 3:27]), np.abs(region.image[15:21, 3:57].astype(int) - (0, 0, 200))
        assert max(part.max() for part in inner) <= 12
        np.testing.assert_allclose(
            cv2.perspectiveTransform(np.float32([[[0, 0], [60, 24]]]), region.to_picture)[0], quad[[0, 2]], atol=1e-3
        )


def test_tall_regions_may_be_turned_to_the_left() -> None:
    step = RunModel(model="reader", turn_tall=True)
    _, sees = run(step, detections([[10, 10, 20, 40], [10, 10, 30, 36]], [0.9, 0.8]))
    np.testing.assert_array_equal(sees.seen[0], np.rot90(PICTURE[10:40, 10:20]))
    assert sees.seen[1].shape == (26, 20, 3)
    quad = corners((15, 25), (10, 30), 0)
    _, sees = run(step, detections([[10, 10, 20, 40]], [0.9], quad[np.newaxis]))
    np.testing.assert_allclose(sees.seen[0].astype(int), np.rot90(PICTURE[10:40, 10:20]).astype(int), atol=1)


@pytest.mark.parametrize("turn_tall", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_places_in_a_region_come_back_in_pixels_of_the_picture(turn_tall: bool, turned: bool) -> None:
    """A corner of the region that is marked in the picture is found again at the marked place."""
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[30:34, 20:24] = 255

    class Finds:
        def run(self, image: Floats) -> PipelineResult:
            ys, xs = np.nonzero(image[:, :, 0] > 128)
            box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], float)
            mask = InstanceMask(0, 0, image[:, :, 0] > 128, image.shape[:2])
            points = np.array([[[xs.mean() + 0.5, ys.mean() + 0.5, 0.9]]])
            return Detections(box, np.ones(1), np.zeros(1, np.int64), ("mark",), keypoints=points, masks=(mask,))

    quad = corners((25, 30), (14, 30), 20)[np.newaxis] if turned else None
    step = RunModel(model="finds", turn_tall=turn_tall)
    context = DecoderContext(prepare((), picture), models={"finds": Finds()})
    found = step.follow({}, detections([[15, 12, 30, 44]], [0.9], quad), context).parts["finds"][0]
    assert isinstance(found, Detections)
    assert found.keypoints is not None
    assert found.masks is not None
    np.testing.assert_allclose(found.boxes[0], [20, 30, 24, 34], atol=3.0 if turned else 1e-6)
    np.testing.assert_allclose(found.keypoints[0, 0], [22, 32, 0.9], atol=0.7)
    assert (found.masks[0].full() != (picture[:, :, 0] > 0)).sum() <= (12 if turned else 0)


def test_what_cannot_be_is_refused() -> None:
    step = RunModel(model="reader")
    for what, found, context in [
        ("the model 'reader' is not loaded", detections([[0, 0, 9, 9]], [1.0]), DecoderContext(prepare((), PICTURE))),
        ("no boxes to look at", Text("x"), DecoderContext(prepare((), PICTURE))),
    ]:
        with pytest.raises(AxforgeError, match=what):
            step.follow({}, found, context)
    with pytest.raises(AxforgeError, match=r"no class 'cta'\s+Did you mean 'cat'"):
        run(RunModel(model="reader", classes=("cta",)), detections([[0, 0, 9, 9]], [1.0]))
    assert upright(PICTURE, np.array([0, 0, np.inf, 5.0]), 0) is None
    assert straightened(PICTURE, np.full((4, 2), np.nan), 0) is None
    assert straightened(PICTURE, np.zeros((4, 2)), 0) is None
    huge = straightened(PICTURE, corners((40, 30), (1e7, 4), 3), 0)
    assert huge is None or max(huge.image.shape) <= 160


def test_lines_are_read_from_top_to_bottom_and_from_left_to_right() -> None:
    boxes = np.float32([[50, 12, 90, 30], [0, 40, 60, 58], [0, 10, 40, 28], [70, 44, 99, 60]])
    found = Candidates(boxes, np.float32([0.5, 0.9, 0.6, 0.7]), np.array([0, 1, 2, 3]))
    result = ReadingOrder().follow({}, found, DecoderContext(prepare((), np.zeros((100, 100, 3), np.uint8))))
    assert result.class_ids.tolist() == [2, 0, 1, 3]
    empty = ReadingOrder().follow({}, found.take(np.zeros(0, np.int64)), DecoderContext(prepare((), PICTURE)))
    assert len(empty) == 0


CASCADE = {**DETECTOR, "postprocessing": [*DETECTOR["postprocessing"], {"type": "run_model", "model": "tiny", "max_regions": 3}]}


def folder_of_two(root: Path) -> Path:
    """A compiled detector that runs a compiled classifier, as `doit compile` lays them out."""
    inner = publish(classifier(), CLASSIFIER, root / "tiny")
    outer = publish(detector(), CASCADE, root / "finder")
    write_bundle(inner, outer / "tiny.zip")
    return outer


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_two(tmp_path_factory.mktemp("cascade"))


@pytest.mark.parametrize("engine", ["aipu-host", "sim", "reference"])
def test_every_engine_gives_what_the_models_give_one_after_the_other(cascade: Path, engine: str) -> None:
    with Model(cascade, engine=engine) as model, Model(cascade.parent / "tiny", engine="reference") as alone:
        found = model(photo())
        assert isinstance(found, Detections)
        looked = [i for i, result in enumerate(found.parts["tiny"]) if result is not None]
        assert looked == [0, 1, 2]
        for i in looked:
            region = upright(photo(), found.boxes[i], 0)
            assert region is not None
            assert isinstance(result := found.parts["tiny"][i], Classification)
            assert result.as_json() == alone(region.image).as_json()


def test_a_bundle_carries_the_other_model_and_streams(cascade: Path, tmp_path: Path) -> None:
    zipped = write_bundle(cascade, tmp_path / "both.zip")
    assert zipped.read_bytes() == bundled(cascade)
    with Model(zipped) as model, Model(cascade) as same:
        frames = list(model.stream("fakevideo:80x60", frames=3))
        assert len(frames) == 3
        assert all(result.as_json() == same(result.picture).as_json() for result in frames)


def test_another_model_that_is_missing_edited_or_itself_is_refused(cascade: Path, tmp_path: Path) -> None:
    lone = publish(detector(), CASCADE, tmp_path / "lone")
    with pytest.raises(AxforgeError, match=r"runs the model 'tiny', and there is no tiny\.zip"):
        Model(lone)
    (lone / "tiny.zip").write_bytes(b"PK nonsense")
    with pytest.raises(AxforgeError, match="damaged"):
        Model(lone)
    (lone / "tiny.zip").write_bytes((cascade / "tiny.zip").read_bytes())
    document = json.dumps({**CASCADE, "labels": ["left", "right"]}).encode()
    (lone / "model.json").write_bytes(published_json(document, ("left", "right"), {"tiny.zip": "0" * 64}))
    with pytest.raises(AxforgeError, match=r"tiny\.zip was edited"):
        Model(lone)
