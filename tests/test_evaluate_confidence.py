"""Intervals of accuracy figures: against tables of statisticians, by their coverage, and the same each time."""

import numpy as np
import pytest

from axforge.axruntime.evaluate.confidence import Spread, paired_interval, share_interval, sign_test
from axforge.axruntime.results.classification import TopAccuracy
from axforge.axruntime.results.detections import Boxes, Detections, MeanAveragePrecision
from axforge.axruntime.results.embedding import Retrieval
from axforge.axruntime.results.result import Metric
from axforge.axruntime.results.segmentation import IntersectionOverUnion, Segmentation

IMAGE = np.zeros((40, 40, 3), np.uint8)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 0, 0, 100), (0, 2, 0, 84.19), (2, 2, 15.81, 100), (82, 100, 73.05, 88.97), (100, 100, 96.38, 100), (5000, 50000, 9.74, 10.27)],
)
def test_shares_have_exact_intervals(right: int, count: int, low: float, high: float) -> None:
    found = share_interval(right, count)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.005), pytest.approx(high, abs=0.005))


def test_paired_losses_have_score_intervals() -> None:
    # an example of the literature: 44 pairs, of which one differs
    found = paired_interval(1, 0, 44)
    assert (found.low, found.high) == (pytest.approx(-6.0, abs=0.5), pytest.approx(11.8, abs=0.5))
    for lost, gained, count in ((0, 0, 2), (2, 0, 2), (5, 4, 100), (0, 0, 100), (30, 2, 100), (0, 0, 0)):
        there, back = paired_interval(lost, gained, count), paired_interval(gained, lost, count)
        assert (there.low, there.high) == (pytest.approx(-back.high, abs=1e-4), pytest.approx(-back.low, abs=1e-4))
        assert there.low - 1e-6 <= 100 * (lost - gained) / max(count, 1) <= there.high + 1e-6
    assert paired_interval(0, 0, 2).high > 60, "two samples that agree prove nothing"


def test_the_sign_test_is_exact() -> None:
    assert [sign_test(*pair) for pair in ((0, 0), (1, 0), (2, 0), (6, 0), (0, 6), (9, 1))] == pytest.approx(
        [1, 1, 0.5, 2 / 64, 2 / 64, 22 / 1024]
    )


def ranked(right: int, count: int) -> Spread:
    metric = TopAccuracy([0] * right + [3] * (count - right), 5)
    return Spread.of(metric)


def test_a_loss_is_significant_only_on_enough_samples() -> None:
    assert not ranked(0, 2).loss_from(ranked(2, 2), "top-1").significant
    assert not ranked(95, 100).loss_from(ranked(97, 100), "top-1").significant
    loss = ranked(80, 100).loss_from(ranked(97, 100), "top-1")
    assert (loss.points, loss.significant) == (17.0, True)
    assert loss.interval.low > 5


def boxes_of(shift: float, count: int = 24) -> MeanAveragePrecision:
    metric = MeanAveragePrecision()
    rng = np.random.default_rng(0)
    for _ in range(count):
        truth = np.concatenate([corner := rng.random((3, 2)) * 20, corner + 10], axis=1)
        moved = truth + rng.random() * shift
        metric.add(
            Detections(moved, np.array([0.9, 0.8, 0.7]), np.zeros(3, np.int64), ("",) * 3), Boxes(truth, np.zeros(3, np.int64)), IMAGE
        )
    return metric


def masks_of(wrong: int, count: int = 24) -> IntersectionOverUnion:
    metric = IntersectionOverUnion()
    rng = np.random.default_rng(0)
    for _ in range(count):
        truth = rng.integers(0, 3, (20, 20))
        found = truth.copy()
        found[: rng.integers(0, wrong + 1)] = 0
        metric.add(Segmentation(found, ("", "", "")), truth, IMAGE)
    return metric


@pytest.mark.parametrize("make", [boxes_of, masks_of])
def test_other_figures_are_drawn_again_the_same_way_each_time(make: type) -> None:
    good, bad = Spread.of(make(1)), Spread.of(make(8))
    for name, value in bad.values.items():
        interval = bad.interval(name)
        assert 0 <= interval.low < value < interval.high <= 100
        loss = bad.loss_from(good, name)
        assert loss.significant
        assert loss.interval.low < loss.points < loss.interval.high
        assert good.loss_from(good, name).interval.high == 0
    again = Spread.of(make(8))
    assert [again.interval(name) for name in again.values] == [bad.interval(name) for name in bad.values]


@pytest.mark.parametrize("make", [boxes_of, masks_of])
def test_all_samples_once_give_the_figure_itself_and_one_sample_proves_nothing(make: type) -> None:
    metric: Metric[object, object] = make(4)
    assert metric.resampled(range(metric.count())).values() == metric.values()
    one = Spread.of(make(4, 1))
    for name in one.values:
        assert (one.interval(name).low, one.interval(name).high) == (0, 100)
        assert not one.loss_from(one, name).significant


def test_recall_counts_the_samples_that_can_be_found() -> None:
    metric = Retrieval([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.5]], [0, 0, 1, 2])
    spread = Spread.of(metric)
    assert spread.values["recall@1"] == 100.0
    assert spread.outcomes["recall@1"].tolist() == [True, True]
    assert spread.interval("recall@1").low < 20
