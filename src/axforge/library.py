"""`axforge.compile`: the compiler and the fast engine together. It is here because the compiler may not know the engine."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from axforge.axcompiler.api import Options, Samples
    from axforge.axruntime.model import Model


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
