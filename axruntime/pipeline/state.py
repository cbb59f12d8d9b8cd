"""What passes between the steps of post-processing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.preprocess import Prepared
from axforge.axruntime.pipeline.results import Result

Array = NDArray[Any]


@dataclass(frozen=True)
class Candidates:
    """Boxes before and after NMS: float32 [n, 4] as left, top, right, bottom in pixels of the network's picture.

    scores: float32 [n]; class_ids: int64 [n].
    """

    boxes: Array
    scores: Array
    class_ids: Array

    def take(self, index: Array) -> "Candidates":
        """Those at `index`, in its order."""
        return Candidates(self.boxes[index], self.scores[index], self.class_ids[index])


@dataclass(frozen=True)
class State:
    """What a step sees: the network's outputs, the picture, the labels, and what the steps before it made."""

    outputs: Mapping[str, Array]
    prepared: Prepared
    labels: tuple[str, ...]
    candidates: Candidates | None = None
    result: Result | None = None

    def only_output(self, step: str) -> Array:
        """The network's one output. Raises AxforgeError when there are several."""
        if len(self.outputs) != 1:
            names = ", ".join(self.outputs)
            raise AxforgeError(
                f"the step takes one output and the network has {len(self.outputs)}: {names}", where=f"postprocessing: {step}"
            )
        return next(iter(self.outputs.values()))

    def with_candidates(self, candidates: Candidates) -> "State":
        return replace(self, candidates=candidates)

    def with_result(self, result: Result) -> "State":
        return replace(self, result=result)


def misfit(step: str, shape: Sequence[int], expected: str) -> AxforgeError:
    """The error of a step that gets an output of a shape it cannot read."""
    what = f"the network's output has shape {list(shape)}, and the step takes {expected}"
    return AxforgeError(what, where=f"postprocessing: {step}", fix="Choose the step that fits this network, or mend its parameters.")
