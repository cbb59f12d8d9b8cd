"""Measuring a model on its dataset."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import Progress, silent
from axforge.axruntime.evaluate.confidence import Spread
from axforge.axruntime.evaluate.datasets import Dataset
from axforge.axruntime.evaluate.metrics import metric_for
from axforge.axruntime.pipeline.chain import kind_of_result
from axforge.axruntime.pipeline.descriptor import Descriptor
from axforge.axruntime.pipeline.pipeline import Pipeline
from axforge.axruntime.results.result import Metric, PipelineResult


@dataclass(frozen=True)
class AccuracyReport:
    """What came out. metrics: in per cent. engine_seconds: time in the engine alone; seconds: all, with reading pictures.

    metric: with all results, for `spread`: how far the figures can be trusted, and what is lost from one model to another.
    """

    model: str
    engine: str
    dataset: str
    images: int
    metrics: dict[str, float]
    primary: str
    engine_seconds: float
    seconds: float
    metric: Metric[Any, Any]

    @functools.cached_property
    def spread(self) -> Spread:
        """The intervals of the figures; computed at the first use, some seconds for detectors."""
        return Spread.of(self.metric)

    @property
    def value(self) -> float:
        """The primary metric, in per cent."""
        return self.metrics[self.primary]

    @property
    def images_per_second(self) -> float:
        """Of the engine alone."""
        return self.images / self.engine_seconds if self.engine_seconds else 0.0

    def as_json(self) -> dict[str, object]:
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "metric"}
        intervals = {name: msgspec.structs.astuple(self.spread.interval(name)) for name in self.metrics}
        return {**known, "intervals": intervals, "value": self.value, "images_per_second": self.images_per_second}


class Measured(msgspec.Struct, frozen=True):
    """What one part of a data set gave; parts are made on any machine and merged by `report`. metric: with all that was added."""

    metric: Metric[Any, Any]
    engine: str
    dataset: str
    images: int
    engine_seconds: float
    seconds: float


def evaluate(pipeline: Pipeline, dataset: Dataset, *, limit: int | None = None, progress: Progress = silent) -> AccuracyReport:
    """Run `dataset`, or `limit` of its samples spread evenly, through the pipeline's engine and judge the results.

    Raises AxforgeError when a sample cannot be read or dataset and pipeline do not fit each other.
    """
    return report(pipeline.descriptor.name, [measure(pipeline, dataset, limit=limit, progress=progress)])


def measure(
    pipeline: Pipeline, dataset: Dataset, *, limit: int | None = None, part: tuple[int, int] = (0, 1), progress: Progress = silent
) -> Measured:
    """Part `part[0]` of `part[1]` of what `evaluate` measures: a run of neighbouring samples. Raises as that does."""
    descriptor = for_measuring(pipeline.descriptor)
    measured = Pipeline(descriptor, pipeline.engine, models=pipeline.models)
    metric = metric_for(kind_of_result(descriptor.postprocessing), dataset.truth)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1:
        raise AxforgeError(f"{limit} samples are too few to measure on", where=dataset.name, fix="Use at least 1.")
    first, after = (count * i // part[1] for i in (part[0], part[0] + 1))
    if first < after:  # engines compile and read weights at their first picture, which is not a speed to report
        Pipeline(descriptor, pipeline.engine, models=pipeline.models).run(dataset[first * len(dataset) // count].image)
    start = time.perf_counter()
    for number in range(first, after):
        sample = dataset[number * len(dataset) // count]
        metric.add(_mapped(measured.run(sample.image), descriptor), sample.truth, sample.image)
        progress(number - first + 1, after - first, sample.name)
    seconds = time.perf_counter() - start
    return Measured(metric, pipeline.engine.name, dataset.name, after - first, measured.engine_seconds, seconds)


def report(model: str, parts: Sequence[Measured]) -> AccuracyReport:
    """All parts of a data set, in their order, as one: the same figures as in one piece, whatever the number of parts.

    Seconds are sums: images a second are those of one engine, not of all together.
    """
    metric = type(parts[0].metric)()
    for part in parts:
        metric.merge(part.metric)
    return AccuracyReport(
        model=model,
        engine=parts[0].engine,
        dataset=parts[0].dataset,
        images=sum(part.images for part in parts),
        metrics=metric.values(),
        primary=metric.primary,
        engine_seconds=sum(part.engine_seconds for part in parts),
        seconds=sum(part.seconds for part in parts),
        metric=metric,
    )


def for_measuring(descriptor: Descriptor) -> Descriptor:
    """The descriptor with the thresholds of its dataset, and every class of a box that is likely enough."""
    dataset = descriptor.dataset
    if dataset is None:
        return descriptor
    chain = tuple(step.for_measuring(dataset.confidence_threshold, dataset.iou_threshold) for step in descriptor.postprocessing)
    return msgspec.structs.replace(descriptor, postprocessing=chain)


def _mapped(result: PipelineResult, descriptor: Descriptor) -> PipelineResult:
    """The result in the dataset's classes, where model.json says how the network's outputs map to them."""
    table = descriptor.dataset.class_map if descriptor.dataset else None
    return result if table is None else result.mapped(table)
