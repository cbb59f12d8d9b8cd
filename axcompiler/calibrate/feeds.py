"""Samples as a model takes them, checked."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.onnx_graph.views import ModelView

Feeds = dict[str, NDArray[np.generic]]
#: an array for each input, by its name
Sample = Mapping[str, NDArray[np.generic]]


def checked_feeds(view: ModelView, sample: Sample, i: int) -> Feeds:
    """Sample number `i` as the model takes it. Raises CompileError on a missing, unknown or misshapen input."""
    if not isinstance(sample, Mapping):
        raise CompileError(
            f"sample {i} is of type {type(sample).__name__} and must be a dict: an array for each input, by its name",
            where="calibrate",
            fix=f"The model's inputs are: {', '.join(view.inputs)}.",
        )
    if set(sample) != set(view.inputs):
        raise CompileError(
            f"sample {i} has the inputs {', '.join(sorted(sample)) or 'nothing'}; the model has {', '.join(view.inputs)}", where="calibrate"
        )
    feeds = {}
    for name in view.inputs:
        value = np.asarray(sample[name])
        if value.shape != view.shapes[name]:
            raise CompileError(
                f"input '{name}' of sample {i} has shape {list(value.shape)} and must have {list(view.shapes[name])}",
                where="calibrate",
                fix="Check the pre-processing and the layout (N, C, H, W) of the calibration data.",
            )
        feeds[name] = value.astype(view.dtypes[name], copy=False)
    return feeds


def input_extremes(feeds: Feeds, i: int) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each float input of sample number `i`. Raises CompileError on NaN and plus infinity."""
    found = {}
    for name, value in feeds.items():
        if value.size and np.issubdtype(value.dtype, np.floating):
            lo, hi = float(value.min()), float(value.max())
            if not hi < np.inf:
                raise not_finite(name, i)
            found[name] = lo, hi
    return found


def not_finite(name: str, i: int) -> CompileError:
    """The error for a tensor that holds NaN or infinity."""
    return CompileError(
        f"tensor '{name}' is not finite (NaN or infinite) in sample {i}",
        where="calibrate",
        fix="Check this sample and its pre-processing; if they are right, the model itself overflows.",
    )
