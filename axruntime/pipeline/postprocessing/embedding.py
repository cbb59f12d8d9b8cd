"""Networks that give a vector for a picture: recognition of faces, persons or products, and search for similar pictures."""

import functools
from pathlib import Path

from axforge.axruntime.lazy import np
from axforge.axruntime.pipeline.candidates import DecoderContext
from axforge.axruntime.pipeline.heads import Network, flat_length
from axforge.axruntime.pipeline.step import Certainty, Count, Decoder, Fit, Outputs, register
from axforge.axruntime.results.embedding import Embedding, Gallery, unit

#: Operators that scale a vector to length 1.
_UNIT = frozenset({"LpNormalization", "ReduceL2"})
#: Lengths that embeddings usually have, and data sets of classes do not.
_LENGTHS = frozenset({64, 128, 192, 256, 384, 512, 768, 1024, 1280, 2048})


@register
class Embed(Decoder, frozen=True, tag="embedding"):
    """The network's output as a vector, and the `k` most similar entries of a `gallery` by the cosine of the angle.

    gallery: path of the .json that infer wrote of a folder of known pictures; an entry is named as its picture.
    unit_length: scale the vector to length 1.
    On a dataset of classes it is judged by recall@1: how often the most similar other sample is of the same class.
    """

    takes = "`[1, n]`; axes of length 1 do not matter"
    gives = Embedding

    gallery: str = ""
    k: Count = 5
    unit_length: bool = True

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head = network.only
        if head is None or head.integer or not (length := flat_length(head.shape)):
            return None
        unit = bool(head.tail & _UNIT)
        if not unit and (length not in _LENGTHS or network.believable(length) or head.last in ("Softmax", "Sigmoid")):
            return None
        sure: Certainty = "likely" if unit else "guess"
        why = f"one vector of {length} numbers" + (", which the graph scales to length 1" if unit else ", a usual length of embeddings")
        return Fit((cls(unit_length=not unit),), sure, why, "" if unit else "Whether this is an embedding, and not scores of classes.")

    def __call__(self, outputs: Outputs, context: DecoderContext) -> Embedding:
        output = self.only(outputs)
        if output.size != max(output.shape, default=0) or not output.size:
            raise self.misfit(output.shape, "[1, n]")
        vector = output.ravel().astype(np.float64)
        found = Embedding(unit(vector) if self.unit_length else vector)
        if not self.gallery:
            return found
        path = Path(self.gallery)
        known = _gallery(path, path.stat().st_mtime_ns if path.exists() else 0)
        return Embedding(found.vector, found.match(known, self.k))


@functools.lru_cache(maxsize=4)
def _gallery(path: Path, changed: int) -> Gallery:
    """The gallery at `path`, read once until the file changes."""
    return Gallery.read(path)
