"""pack: graph, program and schedule become one file, `model.axmodel`, and a `manifest.json` for those who drive it from outside."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from axforge.axcompiler import __version__, container, graphfile, manifest
from axforge.axcompiler.container import Buffer
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.program import AXMODEL_MAGIC, AXMODEL_VERSIONS, ProgramHeader, decode
from axforge.axcompiler.stages import PackConfig, Progress, silent


def run(inputs: Mapping[str, Path], config: PackConfig, out: Path, progress: Progress = silent) -> None:
    """graph.axgraph, program.axprogram, schedule.json -> model.axmodel, manifest.json."""
    graph = graphfile.load(inputs["graph.axgraph"])
    program = inputs["program.axprogram"].read_bytes()
    schedule = inputs["schedule.json"].read_bytes()
    header = decode(program, where=str(inputs["program.axprogram"])).header
    if header.layers != tuple(op.name for op in graph.ops):
        raise CompileError("the program was made of another graph", where=graph.name, fix="Run the stage 'tile' again.")
    progress(0, 2, "model.axmodel")
    sections: dict[str, Buffer] = {"meta": b""}
    sections |= graphfile.to_sections(graph)
    sections |= {"program": program, "schedule": schedule}
    sections["meta"] = meta_json(graph, header, config.name, sections)
    container.write_atomic(out / "model.axmodel", container.encode(AXMODEL_MAGIC, AXMODEL_VERSIONS.start, sections))
    progress(1, 2, "manifest.json")
    described = manifest.describe(graph, header, config.name, __version__)
    container.write_atomic(out / manifest.FILE, manifest.to_bytes(described))


def meta_json(graph: Graph, header: ProgramHeader, name: str, sections: Mapping[str, Buffer]) -> bytes:
    """The `meta` section: what the file is, for which AIPU, and the digests of what it was made from."""

    def port(tensor: str) -> dict[str, object]:
        t = graph.tensors[tensor]
        return {"name": tensor, "shape": t.shape, "dtype": t.dtype, "quant": msgspec.to_builtins(t.quant)}

    document = {
        "name": name,
        "sdk_version": __version__,
        "target": header.target,
        "cores": header.cores,
        "inputs": [port(n) for n in graph.inputs],
        "outputs": [port(n) for n in graph.outputs],
        "provenance": {k: "sha256:" + hashlib.sha256(v).hexdigest() for k, v in sections.items() if k != "meta"},
    }
    return msgspec.json.encode(document)


def read_graph(path: Path) -> Graph:
    """The fused graph inside an `.axmodel`. Raises FormatError."""
    return graphfile.from_sections(container.read(path, AXMODEL_MAGIC, AXMODEL_VERSIONS, kind=".axmodel"), where=str(path))
