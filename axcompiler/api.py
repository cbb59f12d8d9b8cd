"""The compiler as a library: an ONNX model and some samples in, every artefact out. No doit, no cache, no fast engine.

from axforge.axcompiler.numerics import Array
from axforge.axcompiler import api
compiled = api.compile("model.onnx", [{"images": array} for array in arrays], workdir="artefacts")
compiled.save("model.axmodel")

`axforge.compile` does the same and gives an `axforge.Model`, which runs on the fast engine.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from axforge.axcompiler import container, graphfile
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.inspection import passes_of
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.pack import read_graph
from axforge.axcompiler.passes import Observer
from axforge.axcompiler.quantize.choice import for_calibrate
from axforge.axcompiler.reference import Reference
from axforge.axcompiler.stages import BY_NAME, CalibrateConfig, CheckConfig, PackConfig, Progress, QuantizeConfig, TileConfig, silent

Samples = Iterable[Mapping[str, Array]]


@dataclass(frozen=True)
class Options:
    """The configurations of the stages that have choices."""

    check: CheckConfig = field(default_factory=CheckConfig)
    calibrate: CalibrateConfig = field(default_factory=CalibrateConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    tile: TileConfig = field(default_factory=TileConfig)
    pack: PackConfig = field(default_factory=PackConfig)


class Runnable:
    """A compiled graph with the NumPy definition as its engine; `axforge.Model` is a hundred times as fast, with the same bits."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._reference = Reference(graph)

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs by name."""
        return {name: self.graph.tensors[name].shape for name in self.graph.inputs}

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs by name."""
        return {name: self.graph.tensors[name].shape for name in self.graph.outputs}

    def run(self, feeds: Mapping[str, Array], *, raw: bool = False) -> dict[str, Array]:
        """Outputs by name: real numbers, or with `raw` the int8 codes of quantized outputs. Raises AxforgeError on a bad feed."""
        return self._reference.run(feeds, raw=raw)


class Compiled(Runnable):
    """A finished compilation. `folder` holds every artefact; a temporary one lives as long as this object."""

    def __init__(self, folder: Path, keep: Any = None) -> None:
        super().__init__(graphfile.load(folder / "graph.axgraph"))
        self.folder = folder
        self._keep = keep

    @property
    def axmodel(self) -> Path:
        """The `.axmodel` file."""
        return self.folder / "model.axmodel"

    def save(self, path: Path | str) -> Path:
        """Copy the `.axmodel` to `path`, whole or not at all."""
        try:
            container.write_atomic(Path(path), self.axmodel.read_bytes())
        except OSError as e:
            fix = "Name a folder that can be written, with room on its disk."
            raise AxforgeError(f"the .axmodel cannot be written: {e.strerror}", where=str(path), fix=fix) from e
        return Path(path)


def compile(
    model: Path | str | onnx.ModelProto,
    samples: Samples | Callable[[onnx.ModelProto], Samples],
    options: Options | None = None,
    *,
    workdir: Path | str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    observe: Observer | None = None,
) -> Compiled:
    """Compile an ONNX model through all stages.

    samples: feeds by input name, pre-processed as the model expects, or a function that makes them of the checked model.
    workdir: where the artefacts go; a temporary folder without it. progress(stage, done, total) is called from time to time,
    observe(pass, result) after each pass.
    Raises AxforgeError for a model, a configuration or samples that cannot be used.
    """
    options = options or Options()
    calibrate = for_calibrate(options.calibrate, options.quantize)  # what an algorithm needs is collected while calibrating
    keep = None if workdir is not None else tempfile.TemporaryDirectory(prefix="axforge-")
    folder = Path(workdir) if workdir is not None else Path(keep.name if keep else "")
    folder.mkdir(parents=True, exist_ok=True)
    source = _source(model, folder)
    configs: dict[str, Any] = {name: getattr(options, name) for name in ("check", "quantize", "tile", "pack")} | {"calibrate": calibrate}
    for name in ("check", "calibrate", "quantize", "optimize", "tile", "pack"):
        stage = BY_NAME[name]
        inputs = {artefact: folder / artefact for artefact in stage.inputs} | ({"model.onnx": source} if name == "check" else {})
        extra: dict[str, Any] = {}
        if name == "calibrate":
            extra["samples"] = samples(onnx.load_model(folder / "checked.onnx")) if callable(samples) else samples
        if observe is not None and passes_of(name):
            extra["observe"] = observe
        stage.run()(inputs, configs.get(name, stage.config()), folder, _reporter(name, progress), **extra)
    return Compiled(folder, keep)


def _source(model: Path | str | onnx.ModelProto, folder: Path) -> Path:
    if isinstance(model, onnx.ModelProto):
        path = folder / "model.onnx"
        container.write_atomic(path, model.SerializeToString(deterministic=True))
        return path
    return Path(model)


def _reporter(stage: str, progress: Callable[[str, int, int], None] | None) -> Progress:
    if progress is None:
        return silent
    return lambda done, total, note: progress(stage, done, total)


def load(path: Path | str) -> Runnable:
    """The model in an `.axmodel` or `.axgraph` file, run by the NumPy definition. Raises FormatError if the file is not sound."""
    path = Path(path)
    if path.suffix == ".axgraph":
        return Runnable(graphfile.load(path))
    return Runnable(read_graph(path))
