"""`axforge.compile` and `axforge.stream`. They are here because the compiler may not know the engine, and for a call of one line."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from axforge.axcompiler.api import Options, Samples
    from axforge.axruntime.model import Model
    from axforge.axruntime.results.result import PipelineResult


def compile(
    model: "Path | str | onnx.ModelProto",
    samples: "Samples | Callable[[onnx.ModelProto], Samples]",
    options: "Options | None" = None,
    *,
    workdir: Path | str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    threads: int = 0,
) -> "Model":
    """Compile an ONNX model, and give it back ready to run on this CPU.

        model = axforge.compile("model.onnx", samples=[{"images": array} for array in arrays])
        outputs = model.run({"images": image})
        model.save("model.axmodel")

    model: a path, or an ONNX model in memory. samples: some feeds by input name, pre-processed as the network expects, from which value
    ranges are measured; or a function that makes them of the checked model. options: of the stages (`axforge.axcompiler.api.Options`).
    workdir: where the artefacts of the stages go; without it they are not kept. progress(stage, done, total) is called from time to time.
    threads: how many threads a run may use; 0 takes every CPU that this process may use.

    Raises AxforgeError for a model, options or samples that cannot be used.
    """
    from axforge.axcompiler import api
    from axforge.axruntime.axmodel import AxModel
    from axforge.axruntime.deployed.opening import Deployed
    from axforge.axruntime.model import Model

    with tempfile.TemporaryDirectory(prefix="axforge-") as folder:
        path = api.compile(model, samples, options, workdir=workdir or folder, progress=progress).axmodel
        data = path.read_bytes()
    return Model.of(Deployed(str(path), data, AxModel.of(data, path), None, None), threads=threads)


def stream(model: "Model | Path | str", source: Path | str, *, frames: int | None = None) -> "Iterator[PipelineResult]":
    """What a compiled model sees in each frame of a source: `Model(model).stream(source)`, with the model closed at the end.

        for found in axforge.stream("build/yolox_nano/yolox_nano/1", "traffic.mp4"):
            print(found.boxes, found.scores, found.labels)

    model: a Model, which stays open, or what `Model` takes. Raises AxforgeError, as `Model` and `Model.stream` do.
    """
    from axforge.axruntime.model import Model

    if isinstance(model, Model):
        yield from model.stream(source, frames=frames)
        return
    with Model(model) as opened:
        yield from opened.stream(source, frames=frames)
