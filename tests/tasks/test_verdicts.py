"""What `doit accuracy` makes of its figures: verdicts, agreement with the float model, and JUnit XML."""

import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.evaluate.evaluate import AccuracyReport
from axforge.axruntime.results.classification import Classification, TopAccuracy
from axforge.axruntime.results.detections import Boxes, Detections, MeanAveragePrecision
from axforge.axruntime.results.embedding import Embedding, Retrieval
from axforge.axruntime.results.segmentation import IntersectionOverUnion, Segmentation
from axforge.tasks.accuracy import points
from axforge.tasks.accuracy_verdict import verdict_of
from axforge.tasks.junit import Case, record

IMAGE = np.zeros((8, 8, 3), np.uint8)
PLAN: Any = SimpleNamespace(model=SimpleNamespace(name="m"), descriptor=SimpleNamespace(dataset=None))


def classified(answers: list[int], truths: list[int]) -> AccuracyReport:
    metric = TopAccuracy()
    for answer, truth in zip(answers, truths, strict=True):
        metric.add(Classification((answer,), (1.0,), ("",)), truth, IMAGE)
    return AccuracyReport("m", "e", "d", len(truths), metric.values(), metric.primary, 1.0, 1.0, metric)


TRUTHS = [i % 4 for i in range(40)]


def test_a_float_model_at_chance_is_a_mistake_of_the_pipeline() -> None:
    wrong = classified([0] * 40, TRUTHS)
    for report in (wrong, classified([0] * 40, TRUTHS)):
        verdict = verdict_of(PLAN, wrong, report)
        assert verdict.failed
        assert "top-1 of the fp32 model is 25.00 %, and chance gives 25.00 %" in verdict.sentence
        assert "model.json" in verdict.sentence


def test_few_samples_or_a_single_class_prove_no_mistake() -> None:
    few = classified([0] * 8, TRUTHS[:8])
    assert verdict_of(PLAN, few, classified([0] * 8, TRUTHS[:8])).word == "undecided"
    single = classified([1] * 30, [1] * 30)
    assert verdict_of(PLAN, single, classified([1] * 30, [1] * 30)).passed


@pytest.mark.parametrize(("allowed", "word"), [(None, "FAILED"), (50.0, "passed"), (0.0, "FAILED")])
def test_what_may_be_lost_can_be_said(allowed: float | None, word: str) -> None:
    right = classified(TRUTHS, TRUTHS)
    worse = classified([0] * 12 + TRUTHS[12:], TRUTHS)
    assert verdict_of(PLAN, right, worse, allowed).word == word


@pytest.mark.parametrize("typed", ["", "-1", "nan", "101", "two"])
def test_points_that_are_none(typed: str) -> None:
    with pytest.raises(AxforgeError, match="points from 0 to 100"):
        points(typed)


def test_agreement_of_classes() -> None:
    a, b = classified([0, 1, 2, 3], [3, 3, 3, 3]), classified([0, 1, 0, 3], [0, 0, 0, 0])
    assert b.metric.agreement(a.metric) == {"same class": 75.0}


def boxes(*rows: tuple[float, float, float, float, float, int]) -> MeanAveragePrecision:
    metric = MeanAveragePrecision()
    table = np.array(rows, np.float64).reshape(-1, 6)
    ids = table[:, 5].astype(int)
    metric.add(Detections(table[:, :4], table[:, 4], ids, ("",) * len(ids)), Boxes(np.zeros((0, 4)), np.zeros(0, int)), IMAGE)
    return metric


def test_agreement_of_boxes_keeps_box_error_and_class_error_apart() -> None:
    pytest.importorskip("faster_coco_eval")
    reference = boxes((0, 0, 10, 10, 0.9, 1), (20, 20, 30, 30, 0.8, 2), (50, 50, 60, 60, 0.1, 3))
    moved = boxes((0, 0, 10, 8, 0.9, 1), (20, 20, 30, 30, 0.8, 2))
    weaker = boxes((0, 0, 10, 10, 0.7, 1), (20, 20, 30, 30, 0.8, 2))
    assert reference.agreement(reference) == pytest.approx({"AP50 to fp32": 100, "box IoU to fp32": 100, "scores off by": 0})
    assert moved.agreement(reference) == pytest.approx({"AP50 to fp32": 100, "box IoU to fp32": 90, "scores off by": 0})
    assert weaker.agreement(reference) == pytest.approx({"AP50 to fp32": 100, "box IoU to fp32": 100, "scores off by": 10})
    missed = boxes((20, 20, 30, 30, 0.8, 1)).agreement(reference)
    assert missed["box IoU to fp32"] == 0, "a box of another class is not the same object"
    assert missed["AP50 to fp32"] == 0
    assert boxes().agreement(reference)["AP50 to fp32"] == 0
    assert reference.agreement(boxes((0, 0, 9, 9, 0.2, 1))) == {}, "the float model is sure of nothing"


def test_agreement_of_masks() -> None:
    def judged(*rows: list[int]) -> IntersectionOverUnion:
        metric = IntersectionOverUnion()
        metric.add(Segmentation(np.array(rows, np.int32), ()), np.array([[0, 0, 255], [0, 300, 0]], np.int32), IMAGE)
        return metric

    reference = judged([0, 0, 7], [1, 300, 0])
    other = judged([0, 1, 9], [1, 300, 0])
    assert reference.agreement(reference) == {"mIoU to fp32": 100.0, "same pixels": 100.0}
    assert other.agreement(reference) == pytest.approx({"mIoU to fp32": 100 * (2 / 3 + 1 / 2 + 1) / 3, "same pixels": 80.0})
    assert reference.guessing() == pytest.approx(100 * 0.8 / 2), "80 % of the judged pixels are of class 0, one of two"


def test_agreement_of_embeddings() -> None:
    def embedded(*vectors: list[float]) -> Retrieval:
        metric = Retrieval()
        for vector in vectors:
            metric.add(Embedding(np.array(vector)), 0, IMAGE)
        return metric

    agreement = embedded([1, 0], [1, 1]).agreement(embedded([2, 0], [1, 0]))
    assert agreement == pytest.approx({"mean cosine to fp32": 50 * (1 + 2**-0.5), "least cosine to fp32": 100 * 2**-0.5})


def test_junit_keeps_one_case_for_each_model_and_engine(tmp_path: Path) -> None:
    path, lock = tmp_path / "new" / "v.xml", tmp_path / "lock"
    record(path, Case("b", "aipu-host", "failure", "b: FAILED: <1 & 2>\x00"), lock)
    record(path, Case("a", "aipu-host", "skipped", "no data"), lock)
    record(path, Case("b", "sim", "passed", "fine", 1.5), lock)
    record(path, Case("b", "aipu-host", "passed", "better"), lock)
    suite = ET.parse(path).getroot()[0]
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "0",
        "errors": "0",
        "skipped": "1",
    }
    assert [(c.get("classname"), c.get("name")) for c in suite] == [
        ("axforge.accuracy.a", "aipu-host"),
        ("axforge.accuracy.b", "aipu-host"),
        ("axforge.accuracy.b", "sim"),
    ]
    assert suite[2].get("time") == "1.500"
    assert [p.name for p in path.parent.iterdir()] == ["v.xml"]


@pytest.mark.parametrize("content", ["", "<html/>", '<testsuites name="pytest"/>', "\udcff"])
def test_junit_does_not_overwrite_files_of_others(tmp_path: Path, content: str) -> None:
    path = tmp_path / "v.xml"
    before = content.encode("utf-8", "surrogateescape")
    path.write_bytes(before)
    with pytest.raises(AxforgeError, match="holds no verdicts"):
        record(path, Case("a", "sim"), tmp_path / "lock")
    assert path.read_bytes() == before


def test_a_junit_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AxforgeError, match="JUnit file cannot be written"):
        record(tmp_path / "file" / "v.xml", Case("a", "sim"), tmp_path / "lock")
