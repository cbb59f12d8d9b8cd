"""Frames on their way through a pipeline: decoded, pre-processed, run and post-processed at the same time, in order."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.source import Frame, FrameSource, Skipped
from axforge.axruntime.pipeline.codes import RawOutputs
from axforge.axruntime.pipeline.geometry import Prepared
from axforge.axruntime.pipeline.pipeline import Pipeline
from axforge.axruntime.results.result import PipelineResult
from axforge.axruntime.streaming.overlap import Overlap

DECODE, PREPARE, INFER, FINISH = "decode", "pre-process", "inference", "post-process"
#: The steps before a result is there, in order.
STEPS = (DECODE, PREPARE, INFER, FINISH)


@dataclass
class Flight:
    """A frame on its way. skipped: why it has no result, or why the source gave no frame.

    seconds: how long each step took, by name. began: when the frame was decoded, on the clock of `time.perf_counter`.
    engine_seconds: the time in the engine of all frames up to this one.
    """

    frame: Frame | None = None
    skipped: Skipped | None = None
    result: PipelineResult | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    began: float = 0.0
    engine_seconds: float = 0.0
    prepared: Prepared | None = None
    outputs: RawOutputs | None = None


class Intake:
    """Frames of a source as flights. `skip` is for `open_source`: what the source leaves out comes as a flight in its place."""

    def __init__(self) -> None:
        self._left_out: list[Skipped] = []

    def skip(self, skipped: Skipped) -> None:
        """Note a picture that cannot be read."""
        self._left_out.append(skipped)

    def flights(self, source: FrameSource) -> Generator[Flight, None, None]:
        """The flights of all frames. Raises AxforgeError as the source does, after the flights before it."""
        frames = iter(source)
        while True:
            start = time.perf_counter()
            try:
                frame = next(frames, None)
            except AxforgeError:
                yield from self._landed()
                raise
            yield from self._landed()
            if frame is None:
                return
            now = time.perf_counter()
            yield Flight(frame, seconds={DECODE: now - start}, began=now)

    def _landed(self) -> Iterator[Flight]:
        while self._left_out:
            yield Flight(skipped=self._left_out.pop(0))


class FrameFlow(Overlap[Flight]):
    """The flights of a source with their results, in order: iterate over it once, in its context.

    lenient: a picture that the pipeline refuses is skipped, instead of ending the flow. during: what to hold while the engine runs.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        flights: Generator[Flight, None, None],
        *,
        lenient: bool = False,
        during: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._pipeline, self._lenient, self._during = pipeline, lenient, during
        works = {PREPARE: self._prepare, INFER: self._infer, FINISH: self._finish}
        super().__init__(flights, [self._step(name, work) for name, work in works.items()])

    def _step(self, name: str, work: Callable[[Flight, Frame], None]) -> Callable[[Flight], None]:
        def step(flight: Flight) -> None:
            if flight.frame is None or flight.skipped is not None:
                return
            start = time.perf_counter()
            try:
                work(flight, flight.frame)
            except AxforgeError as e:
                if not self._lenient:
                    raise
                flight.skipped = Skipped(flight.frame.index, flight.frame.name, e.what)
            flight.seconds[name] = time.perf_counter() - start

        return step

    def _prepare(self, flight: Flight, frame: Frame) -> None:
        flight.prepared = self._pipeline.prepare(frame.image)

    def _infer(self, flight: Flight, frame: Frame) -> None:
        if flight.prepared is not None:
            with self._during():
                flight.outputs = self._pipeline.infer(flight.prepared)
            flight.engine_seconds = self._pipeline.engine_seconds

    def _finish(self, flight: Flight, frame: Frame) -> None:
        if flight.prepared is not None and flight.outputs is not None:
            flight.result = self._pipeline.finish(flight.outputs, flight.prepared)
            flight.prepared = flight.outputs = None  # their memory is wanted for the frames behind
