"""A data set measured in parts gives exactly the figures of the whole, for every kind of metric."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axruntime.evaluate.metrics import metric_for
from axforge.axruntime.results.classification import Classification
from axforge.axruntime.results.detections import Boxes, Detections
from axforge.axruntime.results.result import PipelineResult
from axforge.axruntime.results.segmentation import Segmentation


def classification(rng: np.random.Generator) -> tuple[Any, Any]:
    """A ranking of five of eight classes, and the right one."""
    ids = tuple(rng.permutation(8)[:5].tolist())
    return Classification(ids, tuple(np.linspace(0.9, 0.1, 5).tolist()), ("",) * 5), int(rng.integers(8))


def detection(rng: np.random.Generator) -> tuple[Any, Any]:
    """Boxes that are nearly those of the truth, and some that are not there."""
    count = int(rng.integers(0, 5))
    corners = rng.uniform(0, 50, (count, 2))
    truth = np.concatenate([corners, corners + rng.uniform(5, 40, (count, 2))], axis=1)
    classes = rng.integers(0, 3, count)
    kept = rng.random(count) < 0.8
    boxes = (truth + rng.normal(size=truth.shape) * 2)[kept].astype(np.float32)
    scores = rng.random(len(boxes)).astype(np.float32)
    return Detections(boxes, scores, classes[kept], ("a", "b", "c")), Boxes(truth, classes)


def segmentation(rng: np.random.Generator) -> tuple[Any, Any]:
    """A mask, and the truth with some pixels that are not judged."""
    truth = rng.choice([0, 1, 2, 255], (6, 7))
    return Segmentation(np.where(rng.random((6, 7)) < 0.7, truth % 255, 1), ("a", "b", "c")), truth


KINDS: dict[str, tuple[type[PipelineResult], Any]] = {
    "class": (Classification, classification),
    "boxes": (Detections, detection),
    "mask": (Segmentation, segmentation),
}


@pytest.mark.parametrize("truth", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(1, 12), cuts=st.lists(st.integers(0, 12), max_size=3))
def test_parts_merge_to_the_whole(truth: Any, seed: int, count: int, cuts: list[int]) -> None:
    result, make = KINDS[truth]
    rng = np.random.default_rng(seed)
    samples = [make(rng) for _ in range(count)]
    image = np.zeros((6, 7, 3), np.uint8)

    def measured(some: list[tuple[Any, Any]]) -> Any:
        metric = metric_for(result, truth)
        for found, true in some:
            metric.add(found, true, image)
        return metric

    merged = metric_for(result, truth)
    borders = [0, *sorted(min(cut, count) for cut in cuts), count]
    for start, end in itertools.pairwise(borders):
        merged.merge(measured(samples[start:end]))
    assert merged.values() == measured(samples).values()
