"""The steps of a pipeline, done in order."""

from collections.abc import Sequence

import numpy as np

from axforge.axruntime.lazy import Array
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs, real
from axforge.axruntime.pipeline.geometry import Draft, Geometry, Prepared
from axforge.axruntime.pipeline.step import OutputStep, PostStep, PreStep
from axforge.axruntime.results.result import PipelineResult
from axforge.axruntime.results.tensors import Tensors


def prepare(chain: Sequence[PreStep], image: Array) -> Prepared:
    """Run the steps of `chain` on `image`. The tensor is float32, NCHW unless a layout step says otherwise.

    image: uint8 [H, W, 3] RGB; a dataset's own array ([H, W] or [H, W, C]) of any type where the steps allow it.
    Raises AxforgeError where a step cannot take what it is given.
    """
    draft = begin(image)
    for step in chain:
        draft = step(draft)
    return prepared(draft)


def begin(image: Array) -> Draft:
    """A picture before the first step."""
    return Draft(image, image, Geometry(width=image.shape[1], height=image.shape[0]), source=image)


def prepared(draft: Draft) -> Prepared:
    """A picture after the last step, as a float32 tensor."""
    return Prepared(_to_tensor(draft.value, draft.layout), draft.picture, draft.geometry, draft.source)


def _to_tensor(value: Array, layout: str) -> Array:
    value = value.astype(np.float32, copy=False)
    if value.ndim == 2:
        value = value[:, :, np.newaxis]
    return np.ascontiguousarray(value[np.newaxis] if layout == "NHWC" else value.transpose(2, 0, 1)[np.newaxis])


def finish(chain: Sequence[PostStep], outputs: RawOutputs, context: DecoderContext) -> PipelineResult:
    """What the steps of `chain` make of the network's outputs; the outputs themselves when the chain is empty."""
    found: Candidates | PipelineResult | None = None
    for step in chain:
        if found is None and isinstance(step, OutputStep):
            outputs = step.changed(outputs)
        else:
            found = step.follow(outputs, found, context)
    if isinstance(found, Candidates):
        return context.detections(found)
    return Tensors({name: real(value) for name, value in outputs.items()}) if found is None else found


def kind_of_result(chain: Sequence[PostStep]) -> type[PipelineResult]:
    """The kind of result that `finish` gives with these steps."""
    return chain[-1].gives if chain else Tensors
