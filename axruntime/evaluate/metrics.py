"""Which metric judges which pipeline, and the peak signal-to-noise ratio. The metrics themselves are with the results they judge."""

from typing import Any

import numpy as np

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array
from axforge.axruntime.results.result import Metric, PipelineResult, TruthKind


def metric_for(kind: type[PipelineResult], truth: TruthKind) -> Metric[Any, Any]:
    """A new metric for results of a kind, on a dataset that knows `truth` of its samples. Raises AxforgeError when they do not fit."""
    if kind.metric is None or kind.metric.truth != truth:
        what = f"the dataset knows the {truth} of each sample, and the pipeline gives {kind.__name__.lower()}"
        raise AxforgeError(what, where="dataset.type", fix="Name a dataset in model.json that fits the post-processing.")
    return kind.metric()


def psnr(a: Array, b: Array, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB of two arrays of one shape; infinite when they are equal."""
    error = float(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(peak * peak / error))
