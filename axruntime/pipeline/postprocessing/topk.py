"""Classification: the k likeliest classes."""

from typing import Annotated, Self

import msgspec
from msgspec import Meta

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.candidates import DecoderContext
from axforge.axruntime.pipeline.heads import Network, flat_length
from axforge.axruntime.pipeline.step import Certainty, Count, Decoder, Fit, Outputs, register
from axforge.axruntime.results.classification import Classification


@register
class TopK(Decoder, frozen=True, tag="topk"):
    """The `k` most likely classes, best first; of equal ones the lower class number.

    softmax: the network gives logits, so apply softmax. skip: number of leading outputs that are not classes (background).
    """

    takes = "`[1, classes]`; axes of length 1 do not matter"
    gives = Classification

    k: Count = 5
    softmax: bool = False
    skip: Annotated[int, Meta(ge=0)] = 0

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head = network.only
        if head is None or (length := flat_length(head.shape)) == 0 or head.integer:
            return None
        background = length - 1 in network.known_counts and not network.believable(length)
        classes = length - background
        sure: Certainty = "certain" if head.last == "Softmax" else "likely" if network.believable(classes) else "guess"
        why = f"one vector of {length} numbers" + (", a background and the classes of a label file" if background else "")
        why += ", which the graph ends with a softmax" if head.last == "Softmax" else ""
        check = "Whether these are scores of classes, and not an embedding." if sure == "guess" else ""
        step = cls(k=min(5, classes), softmax=head.last not in ("Softmax", "Sigmoid"), skip=int(background))
        return Fit((step,), sure, why, check, classes)

    def __call__(self, outputs: Outputs, context: DecoderContext) -> Classification:
        output = self.only(outputs)
        scores = output.ravel()
        if scores.size != max(output.shape, default=0) or scores.size <= self.skip:
            raise self.misfit(output.shape, f"[1, classes] with more than {self.skip} classes")
        values = softmax(scores)[self.skip :] if self.softmax else scores.astype(np.float64)[self.skip :]
        best = np.argsort(-values, kind="stable")[: self.k]
        names = tuple(context.label(int(c)) for c in best)
        return Classification(tuple(best.tolist()), tuple(values[best].tolist()), names)

    def for_measuring(self, confidence_threshold: float | None, iou_threshold: float | None) -> Self:
        return msgspec.structs.replace(self, k=max(self.k, 5))


def softmax(logits: Array) -> Array:
    """exp(x) / sum(exp(x)) along the last axis, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
