"""The process of one engine for `host_engine.py`: a worker of `axforge.axruntime.bench` that knows other libraries too."""

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import graphfile
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.bench import worker
from axforge.axruntime.bench.messages import Load
from axforge.axruntime.engines import Engine

Array = NDArray[np.generic]
Signature = Mapping[str, tuple[tuple[int, ...], str]]


class Runner:
    """A model in a foreign library, as an `Engine` that can only be timed: `run` gives no outputs.

    frame: made from the inputs at the first run, so that what it prepares is not timed.
    """

    def __init__(self, name: str, inputs: Signature, frame: Callable[[Mapping[str, Array]], Callable[[], object]]) -> None:
        self.name, self.inputs, self.outputs = name, inputs, dict[str, tuple[tuple[int, ...], str]]()
        self._make, self._frame = frame, None

    _frame: Callable[[], object] | None

    def run(self, feeds: Mapping[str, Array], *, raw: bool = False) -> dict[str, Array]:
        """Runs one frame with the inputs of the first call."""
        if self._frame is None:
            self._frame = self._make(feeds)
        self._frame()
        return {}

    def close(self) -> None:
        """Frees the model."""
        self._frame = None


class BenchmarkEngines(worker.Engines):
    """The engines of the benchmark."""

    def prepare(self, engine: str) -> str:
        """Imports the library of `engine` and returns its version."""
        if engine in ("openvino", "openvino-nncf"):
            import openvino

            return str(openvino.__version__)
        if engine == "xnnpack":
            import xnnpack  # noqa: F401 - the import is what takes time

            return version("ai-edge-litert")
        return super().prepare("onnx" if engine == "onnxruntime" else engine)

    def open(self, request: Load) -> Engine:
        """Loads the prepared model of `request`."""
        path = Path(request.file)
        if request.engine == "aipu-host":
            from axforge.axruntime.engines.host import HostEngine

            return HostEngine(graphfile.load(path), request.threads)
        if request.engine == "onnxruntime":
            from axforge.axruntime.engines.onnx import OnnxEngine

            return OnnxEngine(path, threads=request.threads)
        if request.engine == "xnnpack":
            return _xnnpack(path, request.threads)
        return _openvino(_by_nncf(path) if request.engine == "openvino-nncf" else path, request.threads)


def _openvino(path: Path, threads: int) -> Engine:
    import openvino as ov

    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    model = ov.Core().compile_model(str(path), "CPU", config)
    request = model.create_infer_request()
    inputs = {i.get_any_name(): (tuple(i.shape), "float32") for i in model.inputs}

    def frame(feeds: Mapping[str, Array]) -> Callable[[], object]:
        values = [feeds[name] for name in inputs]
        return lambda: request.infer(values)

    return Runner("openvino", inputs, frame)


def _by_nncf(cut: Path) -> Path:
    """OpenVINO's own quantizer's model of `cut`, made once beside it."""
    import nncf
    import openvino as ov

    target = cut.with_name("nncf.xml")
    if not target.exists():
        logging.getLogger("nncf").setLevel(logging.ERROR)
        model = ov.Core().read_model(cut)
        inputs = {i.get_any_name(): (tuple(i.shape), "float32") for i in model.inputs}
        samples = nncf.Dataset([worker.random_feeds(inputs, {}, seed) for seed in range(4)])
        ov.save_model(nncf.quantize(model, samples), target)
    return target


def _xnnpack(path: Path, threads: int) -> Engine:
    import xnnpack

    from axforge.axruntime.engines.host import HostEngine

    graph = graphfile.load(path)
    ours = HostEngine(graph, 1)

    def frame(feeds: Mapping[str, Array]) -> Callable[[], object]:
        try:
            return xnnpack.runner(graph, path.with_name("xnnpack.tflite"), threads, dict(feeds), ours.run(feeds))
        except xnnpack.Unsupported as e:
            raise AxforgeError(str(e)) from e

    return Runner("xnnpack", ours.inputs, frame)


if __name__ == "__main__":
    worker.main(BenchmarkEngines())
