"""What the steps of a pipeline have in common, and the register of them. Light to import.

A step is a struct: its fields are the parameters in model.json, their types and limits are the schema and the error messages, its
docstring is the documentation, and calling it does the work. Each step is one module in `preprocessing/` or `postprocessing/`; putting a
file there that registers a step is all that adding one takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self, TypeVar, cast

import msgspec
from msgspec import Meta

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import Output, RawOutputs, best, reaching, real, view
from axforge.axruntime.pipeline.geometry import Draft
from axforge.axruntime.pipeline.heads import Head, Network
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.result import PipelineResult

Size = Annotated[int, Meta(ge=1, le=16384)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
PerChannel = float | Annotated[tuple[float, ...], Meta(min_length=1)]
#: The network's outputs by name, float32 (`RawOutputs`: or int8 codes).
Outputs = Mapping[str, Array]
OutputT = TypeVar("OutputT", Array, Output)
#: How sure a proposal is of something.
Certainty = Literal["certain", "likely", "guess"]


class PipelineStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """What all steps are: read-only, and strict about their parameters."""

    @classmethod
    def tag(cls) -> str:
        """The step's `type` in model.json."""
        return str(cls.__struct_config__.tag)


class PreStep(PipelineStep, frozen=True):
    """A step between the source picture and the network."""

    def __call__(self, draft: Draft) -> Draft:
        """The picture after this step. Raises AxforgeError for a picture that the step cannot take."""
        raise NotImplementedError


class PostStep(PipelineStep, frozen=True):
    """A step between the network and the result.

    takes: what the step reads, for the documentation. gives: the kind of result of a pipeline that ends with this step.
    """

    takes: ClassVar[str]
    gives: ClassVar[type[PipelineResult]]

    def models_run(self) -> tuple[str, ...]:
        """Names of other models that the step runs."""
        return ()

    def follow(
        self, outputs: RawOutputs, found: Candidates | PipelineResult | None, context: DecoderContext
    ) -> Candidates | PipelineResult:
        """Do the step after others that gave `found` (None: it is the first)."""
        raise NotImplementedError

    def for_measuring(self, confidence_threshold: float | None, iou_threshold: float | None) -> Self:
        """The step as a dataset wants it that has these thresholds of its own (None: it has not)."""
        return self


class OutputStep(PostStep, frozen=True):
    """A step that changes the network's outputs before a decoder reads them. It takes codes as they are."""

    def changed(self, outputs: RawOutputs) -> RawOutputs:
        """The outputs after this step, by name. Raises AxforgeError for outputs that it cannot take."""
        raise NotImplementedError

    def follow(
        self, outputs: RawOutputs, found: Candidates | PipelineResult | None, context: DecoderContext
    ) -> Candidates | PipelineResult:
        raise AxforgeError(
            "the step changes outputs, which have been read before it", where=f"postprocessing: {self.tag()}", fix="Put it first."
        )


@dataclass(frozen=True)
class Fit:
    """Steps that can read a network's outputs (none if no step can, and only the kind is known), and how sure that is.

    why: the evidence, a sentence; check: what a user should look at.
    classes: how many of them the steps tell apart, 0 when they have none.
    feeding: pre-processing that networks of this kind are usually trained with, () when they have no usual one.
    labels: names of the classes, where all networks of this kind have the same.
    """

    steps: tuple[PostStep, ...]
    sure: Certainty
    why: str
    check: str = ""
    classes: int = 0
    feeding: tuple[PreStep, ...] = ()
    labels: tuple[str, ...] = ()


class MisfitError(AxforgeError):
    """The network's outputs do not have the shapes that a decoder takes."""


class Decoder(PostStep, frozen=True):
    """A step that reads the network's outputs. `DecodeX(parameters)(outputs, context)` works alone, without a pipeline.

    reads_codes: it takes outputs that are int8 codes as they are, and makes real numbers of its candidates only.
    """

    reads_codes: ClassVar[bool] = False

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        """How this decoder would read the outputs of `network`, judged by their shapes and how the graph ends; None: it would not."""
        return None

    def __call__(self, outputs: Outputs, context: DecoderContext) -> Candidates | PipelineResult:
        """What the outputs mean. Raises AxforgeError for outputs of another number or shape."""
        raise NotImplementedError

    def follow(
        self, outputs: RawOutputs, found: Candidates | PipelineResult | None, context: DecoderContext
    ) -> Candidates | PipelineResult:
        taken = cast(Outputs, outputs) if self.reads_codes else {name: real(value) for name, value in outputs.items()}
        try:
            return self(taken, context)
        except MisfitError as error:
            readers = [tag for tag in _readers(outputs, context) if tag != self.tag()]
            if readers:
                error = MisfitError(error.what, where=error.where, fix=f"Judged by its shape, {' or '.join(readers)} would fit.")
            raise error from None

    def only(self, outputs: Mapping[str, OutputT]) -> OutputT:
        """The network's one output. Raises AxforgeError when there are several."""
        if len(outputs) != 1:
            what = f"the step takes one output and the network has {len(outputs)}: {', '.join(outputs)}"
            raise AxforgeError(what, where=f"postprocessing: {self.tag()}")
        return next(iter(outputs.values()))

    def named(self, outputs: Mapping[str, OutputT], name: str) -> OutputT:
        """The output called `name`. Raises AxforgeError that lists the outputs when there is none."""
        if name not in outputs:
            fix = f"Its outputs are: {', '.join(outputs)}."
            raise AxforgeError(f"the network has no output '{name}'", where=f"postprocessing: {self.tag()}", fix=fix)
        return outputs[name]

    def misfit(self, shape: tuple[int, ...], expected: str) -> MisfitError:
        """The error for an output of a shape that the step cannot read."""
        what = f"the network's output has shape {list(shape)}, and the step takes {expected}"
        return MisfitError(
            what, where=f"postprocessing: {self.tag()}", fix="Choose the step that fits this network, or correct its parameters."
        )


class BoxDecoder(Decoder, frozen=True, kw_only=True):
    """A decoder of boxes. multi_label: a box counts for each of its classes above the threshold, not only for its best."""

    gives = Detections

    confidence_threshold: Share = 0.25
    multi_label: bool = False

    def __call__(self, outputs: Outputs, context: DecoderContext) -> Candidates:
        raise NotImplementedError

    def for_measuring(self, confidence_threshold: float | None, iou_threshold: float | None) -> Self:
        if confidence_threshold is None:
            return self
        return msgspec.structs.replace(self, confidence_threshold=confidence_threshold, multi_label=True)

    def candidates(self, scores: Output, axis: int = 1) -> Array:
        """Indices of the boxes of which a score reaches the threshold. axis: of `scores`, with two axes, along which classes are.

        Only these have to be decoded, and of int8 codes dequantized: `chosen` would leave the others out.
        """
        return np.flatnonzero(reaching(best(scores, axis), np.asarray, self.confidence_threshold))

    def candidates_of_products(self, presence: Output, scores: Output) -> Array:
        """Indices of the boxes of which the product of `presence` [n] and a score [n, classes] may reach the threshold, never too few.

        A product with the largest score of all is not below that with a box's own, unless a presence is negative.
        """
        if not presence.shape[0]:
            return np.arange(0)
        most = real(view(scores, lambda values: np.fmax.reduce(values, axis=None).reshape(1)))[0]
        if not most > 0:
            return np.arange(presence.shape[0])
        return np.flatnonzero(reaching(presence, lambda share: share * most, self.confidence_threshold) | (real(presence) < 0))

    def chosen(self, boxes: Array, scores: Array, **columns: Array) -> Candidates:
        """Boxes [n, 4] with class scores [n, classes] that reach the threshold: once each, or once for each such class.

        columns: further fields of Candidates, with a row for each box.
        """
        if self.multi_label:
            row, classes = np.nonzero(scores >= self.confidence_threshold)
        else:
            best = scores.argmax(axis=1)
            row = np.flatnonzero(scores[np.arange(len(scores)), best] >= self.confidence_threshold)
            classes = best[row]
        return Candidates(boxes[row], scores[row, classes], classes, **{name: column[row] for name, column in columns.items()})

    def finished(self, boxes: Array, scores: Array, classes: Array, labels: int, **columns: Array) -> Candidates:
        """Boxes [n, 4] whose one class the graph chose, as numbers [n] that may be floats, where scores [n] reach the threshold.

        Raises AxforgeError for a class that is not one of `labels`.
        """
        rows = np.flatnonzero(scores >= self.confidence_threshold)
        class_ids = np.rint(classes[rows]).astype(np.int64)
        if rows.size and not 0 <= int(class_ids.min()) <= int(class_ids.max()) < labels:
            what = f"the network gives class {int(class_ids.max())}, and `classes` says that there are {labels}"
            raise AxforgeError(what, where=f"postprocessing: {self.tag()}", fix="Correct `classes`, or the order of the outputs.")
        return Candidates(boxes[rows], scores[rows], class_ids, **{name: column[rows] for name, column in columns.items()})


S = TypeVar("S", bound=PipelineStep)
_STEPS: dict[str, type[PipelineStep]] = {}


def register(step: type[S]) -> type[S]:
    """Make a step known under its tag (a decorator). Two steps of one tag are a mistake of whoever wrote the second."""
    if _STEPS.setdefault(step.tag(), step) is not step:
        raise TypeError(f"{step.__module__}.{step.__name__}: there is a step '{step.tag()}' already: {_STEPS[step.tag()].__module__}")
    return step


def registered(kind: type[S]) -> dict[str, type[S]]:
    """The steps of a kind that are known so far, by tag, sorted."""
    return {tag: step for tag, step in sorted(_STEPS.items()) if issubclass(step, kind)}


def _readers(outputs: RawOutputs, context: DecoderContext) -> list[str]:
    """The decoders that would read these outputs, judged by shapes alone, with or without arithmetic in the graph before them."""
    picture = context.prepared.picture
    height, width, channels = (*picture.shape, 1)[:3]
    found = []
    for tail in (frozenset[str](), frozenset({"Mul"})):
        heads = tuple(Head(name, tuple(value.shape), tail=tail) for name, value in outputs.items())
        network = Network(height, width, channels, heads)
        found += [tag for tag, step in registered(Decoder).items() if step.fits(network) is not None]
    return list(dict.fromkeys(found))
