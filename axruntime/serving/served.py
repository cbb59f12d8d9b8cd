"""What the names that a server answers to stand for: the network alone, or the whole way from a picture to a result."""

import base64
import binascii
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError
from typing import Protocol

import msgspec
import numpy as np

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array
from axforge.axruntime.media.accept import picture_of
from axforge.axruntime.media.images import decode_image
from axforge.axruntime.model import Model
from axforge.axruntime.pipeline.chain import kind_of_result
from axforge.axruntime.results.result import PipelineResult
from axforge.axruntime.serving.batching import Batcher, Waiting
from axforge.axruntime.serving.limits import Refused, ServingLimits, sentence_of
from axforge.axruntime.serving.protocol import InferRequest, chosen, datatype

#: What the name of the whole pipeline ends with.
PIPELINE = "-pipeline"
IMAGE, RESULT = "image", "result"


class TensorForm(msgspec.Struct, frozen=True):
    """A tensor in the metadata of a model. shape: -1 where a side is free."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class InferAnswer(msgspec.Struct):
    """Outputs by name, how many frames they are of, and the seconds of each step."""

    outputs: Mapping[str, Array]
    frames: int
    seconds: dict[str, float]


class Ticket:
    """A request on its way. `frames` wait for the engine; cancelling them takes those out that have not begun."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.cancelled = False
        self.frames: list[Waiting] = []

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self.cancelled = True
        for frame in self.frames:
            frame.done.cancel()


class Served(Protocol):
    """A model of a server."""

    name: str
    inputs: tuple[TensorForm, ...]
    outputs: tuple[TensorForm, ...]

    def infer(self, request: InferRequest, ticket: Ticket) -> InferAnswer:
        """The answer; takes as long as it takes. Raises Refused, and AxforgeError for what does not fit the model."""
        ...


def _run(batcher: Batcher, ticket: Ticket) -> list[dict[str, Array]]:
    """The outputs of the frames of a ticket. Raises Refused."""
    if ticket.cancelled:
        raise Refused(499, "The client has gone.")
    batcher.add(ticket.frames)
    try:
        return [frame.done.result() for frame in ticket.frames]
    except CancelledError:
        raise Refused(499, "The client has gone.") from None


def _seconds(ticket: Ticket) -> dict[str, float]:
    """Seconds a frame of the steps in the batcher: the longest wait, the mean time in the engine."""
    frames = ticket.frames
    return {"queue": max(frame.queued for frame in frames), "inference": sum(frame.inference for frame in frames) / len(frames)}


class TensorService:
    """The network alone. Where its batch is 1, a request may bring several frames along the first axis."""

    def __init__(self, model: Model, batcher: Batcher, limits: ServingLimits) -> None:
        self.name, self._batcher, self._most = model.name, batcher, limits.waiting
        single = all(shape[:1] == (1,) for shape, _ in (*model.inputs.values(), *model.outputs.values()))
        self._several = single and bool(model.inputs)
        self.inputs = self._forms(model.inputs)
        self.outputs = self._forms(model.outputs)

    def _forms(self, sides: Mapping[str, tuple[tuple[int, ...], str]]) -> tuple[TensorForm, ...]:
        free = (-1,) if self._several else ()
        return tuple(TensorForm(name, datatype(dtype), (*free, *shape[len(free) :])) for name, (shape, dtype) in sides.items())

    def infer(self, request: InferRequest, ticket: Ticket) -> InferAnswer:
        """The outputs of all frames of the request."""
        chosen(request, [form.name for form in self.outputs])
        count = self._checked(request.inputs)
        for i in range(count):
            feeds = {name: value[i : i + 1] if self._several else value for name, value in request.inputs.items()}
            ticket.frames.append(Waiting(feeds, False, ticket.deadline))
        found = _run(self._batcher, ticket)
        outputs = {name: np.concatenate([one[name] for one in found]) if count > 1 else found[0][name] for name in found[0]}
        return InferAnswer(outputs, count, _seconds(ticket))

    def _checked(self, given: Mapping[str, Array]) -> int:
        """How many frames were given. Raises Refused where an input is missing, unknown, or of another shape or type."""
        forms = {form.name: form for form in self.inputs}
        names = ", ".join(forms)
        if unknown := [name for name in given if name not in forms]:
            raise Refused(400, f"The model has no input '{unknown[0][:80]}'. Inputs are: {names}.")
        if missing := [name for name in forms if name not in given]:
            raise Refused(400, f"Input '{missing[0]}' is missing. Inputs are: {names}.")
        for name, value in given.items():
            form, got = forms[name], list(value.shape)
            if len(got) != len(form.shape) or any(want not in (-1, have) for want, have in zip(form.shape, got, strict=True)):
                raise Refused(400, f"Input '{name}' has shape {got}, and the model takes {list(form.shape)}.")
            if datatype(value.dtype.name) != form.datatype and not (value.dtype == np.int8 and form.datatype == "FP32"):
                raise Refused(400, f"Input '{name}' has datatype {datatype(value.dtype.name)}, and the model takes {form.datatype}.")
        counts = {len(value) for value in given.values()} if self._several else {1}
        if len(counts) != 1 or not 1 <= next(iter(counts)) <= self._most:
            raise Refused(400, f"Inputs bring {sorted(counts)} frames. All must bring the same number, from 1 to {self._most}.")
        return next(iter(counts))


class PictureService:
    """The whole pipeline: a picture in, a result out, as JSON and, by its kind, as arrays."""

    def __init__(self, model: Model, batcher: Batcher, limits: ServingLimits) -> None:
        self.name, self._batcher, self._pixels = model.name + PIPELINE, batcher, limits.pixels
        self._pipeline = model.pipeline()
        self.inputs: tuple[TensorForm, ...] = (TensorForm(IMAGE, "BYTES", (1,)),)
        kind = kind_of_result(self._pipeline.descriptor.postprocessing)
        columns = tuple(TensorForm(name, datatype(dtype), shape) for name, (dtype, shape) in kind.column_types.items())
        self.outputs = (TensorForm(RESULT, "BYTES", (1,)), *columns)

    def infer(self, request: InferRequest, ticket: Ticket) -> InferAnswer:
        """The result of the picture."""
        chosen(request, [form.name for form in self.outputs])
        pipeline, seconds = self._pipeline, {}
        clock = time.monotonic()
        picture = self._picture(request.inputs)
        seconds["decode"], clock = time.monotonic() - clock, time.monotonic()
        prepared = pipeline.prepare(picture)
        seconds["pre-process"] = time.monotonic() - clock
        ticket.frames.append(Waiting(pipeline.feeds(prepared), pipeline.raw, ticket.deadline))
        found = _run(self._batcher, ticket)[0]
        clock = time.monotonic()
        result = pipeline.finish(pipeline.outputs(found), prepared)
        outputs = self._arrays(result)
        seconds |= _seconds(ticket)
        seconds["post-process"] = time.monotonic() - clock
        return InferAnswer(outputs, 1, seconds)

    def _arrays(self, result: PipelineResult) -> dict[str, Array]:
        text = np.empty(1, object)
        text[0] = result.to_json().encode()
        return {RESULT: text, **result.columns()}

    def _picture(self, given: Mapping[str, Array]) -> Array:
        """The picture of a request: a file as BYTES (base64 in JSON), or UINT8 pixels. Raises Refused."""
        if list(given) != [IMAGE]:
            raise Refused(400, f"The model takes one input, '{IMAGE}', and was given: {', '.join(given)[:200] or 'none'}.")
        value = given[IMAGE]
        try:
            if value.dtype == object and value.size == 1:
                return decode_image(_file(value.ravel()[0]), "the picture", most=self._pixels)
            if value.dtype == np.uint8 and value.ndim in (2, 3, 4):
                value = value[0] if value.ndim == 4 and len(value) == 1 else value
                if value.ndim >= 2 and value.shape[0] * value.shape[1] > self._pixels:
                    raise Refused(
                        413, f"The picture has {value.shape[0] * value.shape[1]:,} pixels, and at most {self._pixels:,} are taken."
                    )
                return picture_of(value)
        except AxforgeError as e:
            raise Refused(413 if "too large" in e.what else 400, sentence_of(e)) from None
        what = "one picture: BYTES of shape [1] (the bytes of a .jpg or .png; base64 in JSON), or UINT8 [height, width, 3]"
        raise Refused(400, f"Input '{IMAGE}' has datatype {datatype(value.dtype.name)} and shape {list(value.shape)}. It is {what}.")


def _file(data: bytes) -> bytes:
    """The bytes of a picture's file, which may be written in base64."""
    try:
        return base64.b64decode(data, validate=True) or data
    except binascii.Error:  # a file of a picture holds bytes that base64 does not
        return data
