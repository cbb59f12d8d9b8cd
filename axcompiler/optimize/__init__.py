"""Stage *optimize*: a QDQ model becomes the fused int8 graph."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from axforge.axcompiler import graphfile, islands
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.ir.rules import SpecError
from axforge.axcompiler.optimize.graph_edit import WELL_FORMED
from axforge.axcompiler.optimize.passes import PASSES
from axforge.axcompiler.passes import Observer, Pass, PassResult, Runner, ignore
from axforge.axcompiler.qdq.assemble import build
from axforge.axcompiler.stages import OptimizeConfig, Progress, silent

__all__ = ["PASSES", "optimize", "run"]


def run(inputs: Mapping[str, Path], config: OptimizeConfig, out: Path, progress: Progress = silent, *, observe: Observer = ignore) -> None:
    """quantized.onnx -> graph.axgraph. observe: is called after each pass."""
    source = inputs["quantized.onnx"]
    graph = optimize(onnx.load(source), progress, observe)
    graphfile.save(graph, out / "graph.axgraph")


def optimize(model: onnx.ModelProto, progress: Progress = silent, observe: Observer = ignore) -> Graph:
    """The fused graph of a QDQ model. Raises AxforgeError on what neither AIPU nor CPU can run."""
    steps, done = len(PASSES) + 1, itertools.count(1)
    progress(0, steps, "read QDQ")

    def after(one: Pass[Any], result: PassResult[Any]) -> None:
        progress(next(done), steps, one.name)
        observe(one, result)

    runner = Runner(build(model), after)
    try:
        runner.require(WELL_FORMED)
    except SpecError as e:  # shape inference and onnxruntime let some contradictions through
        raise CompileError(f"an operator cannot do what the model asks for: {e}", fix="Export the model again, or ask who made it.") from e
    graph = runner.run(PASSES)
    for name in sorted(graph.islands):
        islands.session(graph.islands[name])  # better refused here than on the device
    progress(steps, steps, "")
    return graph
