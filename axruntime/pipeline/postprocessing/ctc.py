"""Text recognition by connectionist temporal classification."""

from typing import Literal

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.candidates import DecoderContext
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.topk import softmax
from axforge.axruntime.pipeline.step import Decoder, Fit, Outputs, register
from axforge.axruntime.results.text import Text

#: A sequence of fewer steps, or of fewer characters, is more likely something else; and so it is when the picture is higher.
_SHORTEST, _FEWEST, _HIGHEST = 8, 11, 64


@register
class DecodeCtc(Decoder, frozen=True, tag="decode_ctc"):
    """Text from the probabilities of characters at each step along a line: the likeliest at each step, repeats once, blanks left out.

    `labels` are the characters, one on each line of a file. blank: the class that means "nothing new", before the characters or after
    them all. space: the class behind the last character is a space, which a file of labels cannot hold. logits: the network gives no
    probabilities, so apply softmax. The confidence of a text is the mean of those of its characters.
    """

    takes = "`[1, steps, classes]`; `[steps, 1, classes]` and `[steps, classes]` too"
    gives = Text

    blank: Literal["first", "last"] = "first"
    space: bool = False
    logits: bool = False

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        head = network.only
        if head is None or head.integer or head.joined or len(head.shape) != 3 or 1 not in head.shape[:2]:
            return None
        steps, classes = max(head.shape[:2]), head.shape[2]
        if not 0 < network.height <= min(_HIGHEST, network.width - 1) or not _SHORTEST <= steps <= network.width or classes < _FEWEST:
            return None
        if head.last not in ("", "Softmax", "LogSoftmax", "MatMul", "Gemm", "Add"):
            return None
        why = f"{classes} numbers at each of {steps} steps along a picture of {network.width} x {network.height}"
        check = "Whether these are scores of characters; `labels` must name them, and `blank` and `space` say what the other classes are."
        return Fit((cls(logits=head.last != "Softmax"),), "guess", why, check)

    def __call__(self, outputs: Outputs, context: DecoderContext) -> Text:
        steps = self._steps(self.only(outputs))
        alphabet = self._alphabet(context, steps.shape[1])
        best = steps.argmax(axis=1)
        scores = (softmax(steps) if self.logits else steps.astype(np.float64))[np.arange(len(steps)), best]
        blank = 0 if self.blank == "first" else steps.shape[1] - 1
        new = np.flatnonzero((best != blank) & np.concatenate([[True], best[1:] != best[:-1]]))
        return Text("".join(alphabet[c] for c in best[new].tolist()), tuple(scores[new].tolist()))

    def _steps(self, output: Array) -> Array:
        """The output as [steps, classes]."""
        shape = output.shape
        if len(shape) == 3 and 1 in shape[:2]:
            output = output.reshape(-1, shape[2])
        if output.ndim != 2 or output.shape[1] < 2 or not len(output):
            raise self.misfit(shape, "[1, steps, classes]")
        return output

    def _alphabet(self, context: DecoderContext, classes: int) -> tuple[str, ...]:
        """The text of each class; '' of the blank. Raises AxforgeError when the labels do not match the classes."""
        texts = (*context.labels, *([" "] if self.space else ()))
        if len(texts) + 1 == classes:
            return ("", *texts) if self.blank == "first" else (*texts, "")
        means = f"the blank, {len(context.labels)} labels{' and the space' if self.space else ''}"
        fix = "Correct `labels`, one character on each line"
        if abs(len(texts) + 1 - classes) == 1:
            fix += f', or write "space": {"false" if self.space else "true"}'
        what = f"the network tells {classes} classes apart, and {means} make {len(texts) + 1}"
        raise AxforgeError(what, where=f"postprocessing: {self.tag()}", fix=f"{fix}.")
