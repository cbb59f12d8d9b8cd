"""`Model`: a compiled model as a Python object. Light to import: NumPy and the engine are loaded when a model is opened."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, np
from axforge.axruntime.packages import missing_named, require

if TYPE_CHECKING:
    from axforge.axcompiler.manifest import Manifest
    from axforge.axruntime.deployed.opening import Deployed
    from axforge.axruntime.media.source import FrameSource
    from axforge.axruntime.pipeline.candidates import PictureModel
    from axforge.axruntime.pipeline.descriptor import Descriptor
    from axforge.axruntime.pipeline.pipeline import Pipeline
    from axforge.axruntime.results.result import PipelineResult
    from axforge.axruntime.streaming.flow import Flight, Intake

#: Steps of pre-processing that only a picture can go through.
_PICTURE_STEPS = frozenset({"resize", "centercrop", "convert_color", "text_line"})
_MAX_THREADS = 1024


class Model:
    """A compiled model, ready to run on this machine.

        from axforge import Model

        model = Model("yolox_nano")  # or a compiled folder, model.zip, model.axmodel
        found = model("street.jpg")
        found.plot().save("found.png")

    path: a compiled folder, a zip that `axmodel bundle` made of it, or an `.axmodel`. A folder and a zip hold the pipeline too
    (`model.json`); a bare `.axmodel` has one if its model.json is beside it, and else only takes arrays, by `run`. Or, where there is
    no file of that name, the name of a model of the zoo or of the project around the current folder, as `axforge list` shows them: it
    is compiled first, into the project's build folder, unless it is up to date (this needs the extra `compile`).

    threads: how many threads one picture may use; 0 takes every CPU that this process may use.
    engine: `aipu-host` (native code for this CPU), `sim` (instruction by instruction) or `reference` (NumPy); all give the same bits.

    Calls may come from several threads at once. `with Model(...) as model:` frees threads and memory at the end, as `close` does.

    Raises AxforgeError, whose text says what is wrong and what to do, for a file that is missing, damaged or was edited.
    """

    def __init__(self, path: Path | str, *, threads: int = 0, engine: str = "aipu-host") -> None:
        from axforge.axruntime.deployed import naming
        from axforge.axruntime.deployed.opening import open_deployed

        count = _thread_count(threads)
        if naming.is_name(path) and not Path(path).exists():
            path = naming.compiled(str(path))
        self._start(open_deployed(path), count, engine)

    @classmethod
    def of(cls, deployed: "Deployed", *, threads: int = 0, engine: str = "aipu-host") -> Self:
        """The model of files that are open already."""
        model = cls.__new__(cls)
        model._start(deployed, _thread_count(threads), engine)
        return model

    def _start(self, deployed: "Deployed", threads: int, engine: str) -> None:
        from axforge.axruntime.engines import HasThreads
        from axforge.axruntime.engines.factory import engine_for

        self._deployed = deployed
        with missing_named():
            if deployed.model.graph.islands:
                require("onnxruntime")  # now, and not at the first picture
            self._engine = engine_for(engine, deployed.model, threads=threads)
        self._threaded = self._engine if isinstance(self._engine, HasThreads) else None
        self._others = {name: type(self).of(other, threads=threads, engine=engine) for name, other in self._deployed.others.items()}
        self._pipeline: Pipeline | None = None
        self._use = _Use()
        self._alone: AbstractContextManager[object] = nullcontext() if engine == "aipu-host" else threading.Lock()

    @property
    def name(self) -> str:
        """The model's name."""
        return self._deployed.descriptor.name if self._deployed.descriptor else self._deployed.model.meta.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes in order; () when there are none."""
        return self._deployed.descriptor.label_names if self._deployed.descriptor else ()

    @property
    def inputs(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Shape and NumPy type of each input of the network, by name: what `run` takes."""
        return self._engine.inputs

    @property
    def outputs(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Shape and NumPy type of each output of the network, by name: what `run` gives."""
        return self._engine.outputs

    @property
    def descriptor(self) -> "Descriptor | None":
        """The pipeline: what model.json says. None for a bare `.axmodel`."""
        return self._deployed.descriptor

    @property
    def manifest(self) -> "Manifest | None":
        """What manifest.json says, verified: `manifest.outputs[0].scale`, `.zero_point`, `.shape`. None where there is none."""
        return self._deployed.manifest

    def __call__(self, picture: object) -> "PipelineResult":
        """What the model sees in a picture.

        picture: a path, a Pillow image, or a NumPy array, uint8 [height, width, 3] (RGB) or [height, width] (grey).

        Returns Detections, Classification, Segmentation, Picture or Tensors, by the last step of the pipeline: with labels, and boxes in
        pixels of `picture`. `.plot()` draws it, `.to_json()` writes it, `.as_json()` gives it as plain Python values.

        Raises AxforgeError when `picture` is not a picture, or the model has no pipeline.
        """
        from msgspec.structs import replace

        from axforge.axruntime.media.accept import picture_of

        with self._running(), missing_named():
            pipeline = self.pipeline()
            image = picture_of(picture, features=not _PICTURE_STEPS & {step.tag() for step in pipeline.descriptor.preprocessing})
            return replace(pipeline.run(image), picture=image)

    def stream(self, source: Path | str, *, frames: int | None = None) -> "Iterator[PipelineResult]":
        """What the model sees in each frame of a source, in order, each result with its `picture`.

            for found in model.stream("street.mp4"):
                print(found.brief())

        source: a picture, a folder, a glob, a video, `usb:N`, an address, `fakevideo:WxH`. frames: at most so many.

        Frames are decoded, pre-processed, run and post-processed at the same time; a few wait between the steps, so memory does not grow
        with the length of the source. A tracker follows objects through the stream. Leaving the loop ends the threads.

        Raises AxforgeError, for a source that is not there before the first frame, and for one that breaks off after the frames before.
        """
        from msgspec.structs import replace

        from axforge.axruntime.media.opening import open_source

        for flight in self.flights(open_source(str(source), frames=frames)):
            if flight.frame is not None and flight.result is not None:
                yield replace(flight.result, picture=flight.frame.image)

    def flights(self, source: "FrameSource", intake: "Intake | None" = None, *, lenient: bool = False) -> "Iterator[Flight]":
        """The frames of an open source with their results and the time of each step, as `stream` makes them.

        intake: whose `skip` the source was opened with. lenient: a picture that the pipeline refuses is skipped too.
        """
        from axforge.axruntime.pipeline.candidates import StreamMemory
        from axforge.axruntime.pipeline.pipeline import Pipeline
        from axforge.axruntime.streaming.flow import FrameFlow, Intake

        with missing_named():
            pipeline = Pipeline(self._described(), self._engine, StreamMemory(), self._regions())
            flights = (intake or Intake()).flights(source)
            with FrameFlow(pipeline, flights, lenient=lenient, during=self._running) as flow:
                yield from flow

    @contextmanager
    def _running(self) -> Iterator[None]:
        """While the engine runs: it is not closed, and runs nothing else if it cannot."""
        with self._use, self._alone:
            yield

    @property
    def frames_at_once(self) -> int:
        """How many calls of `run(..., alone=True)` at once keep the engine's CPUs busy; 1 for an engine that does one at a time."""
        return self._threaded.threads if self._threaded else 1

    def run(self, feeds: Mapping[str, Array], *, raw: bool = False, alone: bool = False) -> dict[str, Array]:
        """The network alone: its outputs by name.

        feeds: an array for each of `inputs`, pre-processed; a quantized input is taken as real numbers or as int8 codes.
        raw: give quantized outputs as int8 codes and not as float32. alone: use the calling thread only, for callers that run several
        frames at once (see `frames_at_once`).

        Raises AxforgeError on a missing or unknown input, or another shape.
        """
        with self._running():
            if alone and self._threaded:
                return self._threaded.run(self._checked(feeds), raw=raw, alone=True)
            return self._engine.run(self._checked(feeds), raw=raw)

    def save(self, path: Path | str) -> Path:
        """Write the `.axmodel` to `path`, whole or not at all. Raises AxforgeError."""
        from axforge.axcompiler.container import write_atomic

        try:
            write_atomic(Path(path), self._deployed.data)
        except OSError as e:
            fix = "Name a folder that can be written, with room on its disk."
            raise AxforgeError(f"the .axmodel cannot be written: {e.strerror}", where=str(path), fix=fix) from e
        return Path(path)

    def close(self) -> None:
        """End the threads and free the memory, once the calls that are under way have ended. May be called twice."""
        if self._use.end():
            self._engine.close()
            for other in self._others.values():
                other.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        takes = ", ".join(f"{name} {dtype}{list(shape)}" for name, (shape, dtype) in self.inputs.items())
        task = (self.descriptor.task if self.descriptor else None) or "arrays"
        classes = f", {len(self.labels)} classes" if self.labels else ""
        state = ", closed" if self._use.ended else ""
        return f"<Model {self.name}: {task}{classes}, takes {takes}, on {self._engine.name}{state}>"

    def pipeline(self) -> "Pipeline":
        """The pipeline of single pictures, for whoever does its parts in places of their own. Raises AxforgeError when there is none."""
        from axforge.axruntime.pipeline.pipeline import Pipeline

        self._pipeline = self._pipeline or Pipeline(self._described(), self._engine, models=self._regions())
        return self._pipeline

    def _regions(self) -> "Mapping[str, PictureModel]":
        """The models that the pipeline runs on parts of a picture."""
        return {name: _OfRegions(other) for name, other in self._others.items()}

    def _described(self) -> "Descriptor":
        if self.descriptor is None:
            names = ", ".join(self.inputs)
            fix = f"Put its model.json beside it, or feed arrays: model.run({{name: array}}) with {names}."
            raise AxforgeError("the model has no pipeline, so it takes no pictures", where=self._deployed.where, fix=fix)
        return self.descriptor

    def _checked(self, feeds: object) -> dict[str, Array]:
        names = ", ".join(self.inputs)
        if not isinstance(feeds, Mapping):
            fix = f"Write model.run({{name: array}}); inputs are: {names}."
            raise AxforgeError(f"feeds of type {type(feeds).__name__} have no names", where=self.name, fix=fix)
        for name in feeds:
            if name not in self.inputs:
                raise AxforgeError(f"the model has no input '{name}'", where=self.name, fix=f"Inputs are: {names}.")
        return {name: self._typed(name, np.asarray(value)) for name, value in feeds.items()}

    def _typed(self, name: str, value: Array) -> Array:
        """Numbers of another type than the input's, as that type; int8 stays, because it means codes."""
        dtype = self.inputs[name][1]
        if value.dtype.kind not in "fiub":
            raise AxforgeError(f"input '{name}' is of type {value.dtype} and must be of numbers", where=self.name)
        return value if value.dtype == np.int8 or value.dtype == dtype else value.astype(dtype)


class _OfRegions:
    """A model that another one runs on parts of a picture, by the rules of `Model` for calls at the same time."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def run(self, image: Array) -> "PipelineResult":
        """The result for a region."""
        with self._model._running():
            return self._model.pipeline().run(image)


class _Use:
    """Counts the calls that are under way, so that closing waits for them, and refuses new ones."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self.ended = False

    def __enter__(self) -> None:
        with self._changed:
            if self.ended:
                raise AxforgeError("the model is closed", fix="Open it again: Model(path).")
            self._running += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def end(self) -> bool:
        """Refuse new calls and wait for the others. False when that was done before."""
        with self._changed:
            if self.ended:
                return False
            self.ended = True
            self._changed.wait_for(lambda: self._running == 0)
            return True


def _thread_count(threads: object) -> int:
    if not isinstance(threads, int) or isinstance(threads, bool) or not 0 <= threads <= _MAX_THREADS:
        raise AxforgeError(f"threads={threads!r} is not a number of threads", fix=f"Give 1 to {_MAX_THREADS}, or 0 for every CPU.")
    return threads
