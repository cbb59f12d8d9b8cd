"""Classification: the k likeliest classes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axforge.axruntime.pipeline import results, steps
from axforge.axruntime.pipeline.state import State, misfit


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """exp(x) / sum(exp(x)) over a vector, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(shifted / shifted.sum())


def top_k(step: steps.TopK, state: State) -> State:
    """Outputs of [1, classes] (axes of length 1 do not matter) -> Classification. Ties go to the lower class."""
    output = state.only_output("topk")
    scores = output.ravel()
    if scores.size != max(output.shape, default=0) or scores.size <= step.skip:
        raise misfit("topk", output.shape, f"[1, classes] with more than {step.skip} classes")
    values = softmax(scores)[step.skip :] if step.softmax else scores.astype(np.float64)[step.skip :]
    best = np.argsort(-values, kind="stable")[: step.k]
    names = tuple(results.label(state.labels, int(c)) for c in best)
    return state.with_result(results.Classification(tuple(best.tolist()), tuple(values[best].tolist()), names))


STEPS: Mapping[type[Any], Callable[[Any, State], State]] = {steps.TopK: top_k}
