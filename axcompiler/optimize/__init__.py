"""Stage *optimize*: a QDQ model becomes the fused int8 graph."""

from collections.abc import Mapping
from pathlib import Path

import onnx

from axforge.axcompiler import graphfile, islands, spec
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.optimize.movement import shuffles_to_takes
from axforge.axcompiler.optimize.passes import (
    Pass,
    drop_identities,
    drop_unused,
    fuse_padding,
    fuse_tables,
    fuse_tables_into_concat,
    join_shapes,
    merge_constants,
)
from axforge.axcompiler.qdq.assemble import build
from axforge.axcompiler.stages import OptimizeConfig, Progress, silent

PASSES: tuple[Pass, ...] = (
    drop_unused,
    drop_identities,
    shuffles_to_takes,
    join_shapes,
    drop_identities,
    fuse_tables,
    fuse_tables_into_concat,
    fuse_padding,
    merge_constants,
)


def run(inputs: Mapping[str, Path], config: OptimizeConfig, out: Path, progress: Progress = silent) -> None:
    """Reads quantized.onnx, writes graph.axgraph."""
    source = inputs["quantized.onnx"]
    graph = optimize(onnx.load(source), progress)
    graphfile.save(graph, out / "graph.axgraph")


def optimize(model: onnx.ModelProto, progress: Progress = silent) -> Graph:
    """The fused graph of a QDQ model. Raises AxforgeError on what neither AIPU nor CPU can run."""
    steps = len(PASSES) + 1
    progress(0, steps, "read QDQ")
    graph = build(model)
    spec.check(graph)
    for k, rewrite in enumerate(PASSES, 1):
        progress(k, steps, rewrite.__name__)
        graph = rewrite(graph)
        spec.check(graph)
    for name in sorted(graph.islands):
        islands.session(graph.islands[name])  # better refused here than on the device
    progress(steps, steps, "")
    return graph
