"""Stage *optimize*: a QDQ model becomes the fused int8 graph."""

from collections.abc import Mapping
from pathlib import Path

import onnx

from axcompiler import graphfile, islands, spec
from axcompiler.errors import CompileError
from axcompiler.ir import Graph
from axcompiler.optimize.assemble import build
from axcompiler.optimize.passes import PASSES
from axcompiler.stages import OptimizeConfig, Progress, silent


def run(inputs: Mapping[str, Path], config: OptimizeConfig, out: Path, progress: Progress = silent) -> None:
    """Reads quantized.onnx, writes graph.axgraph."""
    source = inputs["quantized.onnx"]
    graph = optimize(onnx.load(source), progress)
    graphfile.save(graph, out / "graph.axgraph")


def optimize(model: onnx.ModelProto, progress: Progress = silent) -> Graph:
    """The fused graph of a QDQ model. Raises AxforgeError on what neither AIPU nor CPU can run."""
    steps = len(PASSES) + 1
    progress(0, steps, "read QDQ")
    try:
        graph = build(model)
    except onnx.shape_inference.InferenceError as e:
        raise CompileError(f"the shapes of the model contradict each other: {e}", fix="Check the model with onnx.checker.") from e
    spec.check(graph)
    for k, rewrite in enumerate(PASSES, 1):
        progress(k, steps, rewrite.__name__)
        graph = rewrite(graph)
        spec.check(graph)
    for name in sorted(graph.islands):
        islands.session(graph.islands[name])  # better refused here than on the device
    progress(steps, steps, "")
    return graph
