"""A pipeline: pre-processing, an engine, post-processing."""

import time
from collections.abc import Mapping

import numpy as np

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.engines import Engine
from axforge.axruntime.lazy import Array
from axforge.axruntime.pipeline import chain
from axforge.axruntime.pipeline.candidates import DecoderContext, PictureModel, StreamMemory
from axforge.axruntime.pipeline.codes import Codes, Output, RawOutputs
from axforge.axruntime.pipeline.descriptor import Descriptor
from axforge.axruntime.pipeline.feeding import CodeFeeder
from axforge.axruntime.pipeline.geometry import Prepared
from axforge.axruntime.pipeline.step import Decoder, OutputStep
from axforge.axruntime.results.result import PipelineResult

#: Shape (-1 where free) and NumPy type of each input, by name.
Inputs = Mapping[str, tuple[tuple[int, ...], str]]


class Pipeline:
    """Runs pictures through a model. `engine_seconds` sums the time spent in the engine alone.

    raw: whether the engine is to give its quantized outputs as codes.

    memory: of the stream whose frames are run, in order, for steps that follow objects; None: each picture is by itself.
    models: those that its steps run on parts of a picture (`descriptor.models_run`), by name; their time counts as post-processing.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        engine: Engine,
        memory: StreamMemory | None = None,
        models: Mapping[str, PictureModel] | None = None,
    ) -> None:
        self._memory = memory
        self.models = dict(models or {})
        self.descriptor, self.engine = descriptor, engine
        self.engine_seconds = 0.0
        self._input = only_input(engine.inputs, descriptor.name)
        quant = engine.quantization.get(self._input)
        first = next(iter(descriptor.postprocessing), None)
        self.raw = isinstance(first, OutputStep) or (isinstance(first, Decoder) and first.reads_codes)
        self._feeder = CodeFeeder(descriptor.preprocessing, *quant) if quant else None

    def run(self, image: Array) -> PipelineResult:
        """The result for one picture (uint8 RGB [H, W, 3], or an array of the model's dataset). Raises AxforgeError."""
        prepared = self.prepare(image)
        return self.finish(self.infer(prepared), prepared)

    def prepare(self, image: Array) -> Prepared:
        """The network's input, as codes where it is quantized. Raises AxforgeError."""
        return self._feeder(image) if self._feeder else chain.prepare(self.descriptor.preprocessing, image)

    def infer(self, prepared: Prepared) -> dict[str, Output]:
        """The network's outputs by name: float32, or codes where the decoder takes them."""
        feeds = self.feeds(prepared)
        start = time.perf_counter()
        outputs = self.engine.run(feeds, raw=self.raw)
        self.engine_seconds += time.perf_counter() - start
        return self.outputs(outputs)

    def feeds(self, prepared: Prepared) -> dict[str, Array]:
        """What the engine is fed, for whoever runs it (with `raw`) in another place. Raises AxforgeError when it does not fit."""
        return {self._input: fit_input(prepared.tensor, self._input, self.engine.inputs)}

    def outputs(self, outputs: Mapping[str, Array]) -> dict[str, Output]:
        """What `finish` takes of what the engine gave."""
        if not self.raw:
            return dict(outputs)
        quants = self.engine.quantization
        return {name: Codes(value, *quants[name]) if value.dtype == np.int8 else value for name, value in outputs.items()}

    def finish(self, outputs: RawOutputs, prepared: Prepared) -> PipelineResult:
        """What post-processing makes of `outputs`."""
        return chain.finish(self.descriptor.postprocessing, outputs, self._context(prepared))

    def _context(self, prepared: Prepared) -> DecoderContext:
        return DecoderContext(prepared, self.descriptor.label_names, self._memory or StreamMemory(), self.models)


def only_input(inputs: Inputs, name: str) -> str:
    """The name of the network's one input. Raises AxforgeError when it has several, or none."""
    if len(inputs) != 1:
        names = ", ".join(inputs) or "none"
        raise AxforgeError(f"a pipeline feeds one input, and the network has {len(inputs)}: {names}", where=name)
    return next(iter(inputs))


def fit_input(tensor: Array, name: str, inputs: Inputs) -> Array:
    """`tensor` in the input's type. Raises AxforgeError when its shape is not the input's."""
    shape, dtype = inputs[name]
    if len(shape) != tensor.ndim or any(want not in (-1, got) for want, got in zip(shape, tensor.shape, strict=True)):
        what = f"pre-processing gives shape {list(tensor.shape)}, and the network's input '{name}' takes {list(shape)}"
        raise AxforgeError(what, where="preprocessing", fix="Correct the resize, crop or colour step in model.json.")
    # engines quantize float32 themselves, so an int8 input takes it as it is
    return tensor if dtype in ("float32", "int8") else tensor.astype(np.dtype(dtype))
