"""Where tensors live: L2 by liveness (planner.py), DDR for what the host touches and what does not fit."""

from dataclasses import dataclass

import msgspec

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.program import Port, Space
from axforge.axcompiler.strides import row_major
from axforge.axcompiler.tile.emit import ProgramEmitter
from axforge.axcompiler.tile.layout import Halo, TensorLayouts, layouts
from axforge.axcompiler.tile.planner import Lifetime, allocate, first_fit, lower_bound, peak
from axforge.axcompiler.tile.views import View


@dataclass(frozen=True)
class Place:
    """A tensor in memory. view: in logical axis order. halo: (top, left, bottom, right) pixels around it that hold the zero point."""

    view: View
    halo: Halo = (0, 0, 0, 0)


class MemoryReport(msgspec.Struct, frozen=True):
    """Bytes of each memory. bound: what no plan with all tensors in that memory can beat, also those that were spilled to DDR."""

    l2_peak: int
    l2_bound: int
    ddr_peak: int
    ddr_bound: int
    spilled: tuple[str, ...]


@dataclass(frozen=True)
class MemoryPlan:
    """places by tensor; ports of the tensors that the host writes or reads; scratch: buffers of row-major staging, by layer."""

    places: dict[str, Place]
    ports: dict[str, Port]
    scratch: dict[int, int]
    report: MemoryReport


def lifetimes(graph: Graph) -> dict[str, tuple[int, int]]:
    """First and last layer (index of operator) of every quantized activation. Inputs live from layer 0, outputs to the end."""
    end = max(0, len(graph.ops) - 1)
    spans: dict[str, list[int]] = {name: [0, 0] for name in graph.inputs}
    for i, op in enumerate(graph.ops):
        for name in op.inputs:
            if name in spans:
                spans[name][1] = i
        for name in op.outputs:
            spans[name] = [i, i]
    for name in graph.outputs:
        if name in spans:
            spans[name][1] = end
    return {n: (a, b) for n, (a, b) in spans.items() if graph.tensors[n].quant and n not in graph.constants}


def blocks_of(graph: Graph, found: TensorLayouts, emitter: ProgramEmitter) -> list[Lifetime]:
    """A block for every buffer: live while any tensor in it is."""
    spans: dict[str, list[int]] = {}
    for name, (first, last) in lifetimes(graph).items():
        span = spans.setdefault(found.of[name].root, [first, last])
        span[:] = min(span[0], first), max(span[1], last)
    return [Lifetime(name, emitter.aligned(found.sizes[name]), first, last) for name, (first, last) in spans.items()]


def plan(graph: Graph, emitter: ProgramEmitter, scratch: dict[int, int], constants: dict[str, int]) -> MemoryPlan:
    """Places for all tensors. scratch: bytes of staging by layer. constants: buffers of constant operands."""
    found = layouts(graph)
    blocks = blocks_of(graph, found, emitter)
    stages = {f"\0scratch{layer}": layer for layer in scratch}
    blocks += [Lifetime(name, emitter.aligned(scratch[layer]), layer, layer) for name, layer in stages.items()]
    in_l2 = [b for b in blocks if b.name not in found.ports]
    l2, spilled = allocate(in_l2, emitter.target.memories.l2.usable)
    in_ddr = [b for b in blocks if b.name in found.ports] + spilled
    ddr, too_many = first_fit(in_ddr, emitter.target.memories.ddr.usable)
    if too_many:
        raise too_large(graph, emitter, too_many[0])
    buffers: dict[str, int] = {}
    for block in blocks:
        space, offset = (Space.L2, l2[block.name]) if block.name in l2 else (Space.DDR, ddr[block.name])
        buffers[block.name] = emitter.buffer(space, offset, block.size, block.first, block.last)
    places = {
        name: Place(View(buffers[at.root], at.offset, graph.tensors[name].shape, at.strides), at.halo) for name, at in found.of.items()
    }
    for name, buffer in constants.items():
        places[name] = Place(View(buffer, 0, graph.tensors[name].shape, row_major(graph.tensors[name].shape)))
    report = MemoryReport(
        l2_peak=peak(in_l2, l2),
        l2_bound=lower_bound(in_l2),
        ddr_peak=peak(in_ddr, ddr),
        ddr_bound=lower_bound(in_ddr),
        spilled=tuple(sorted(b.name for b in spilled if b.name not in stages)),
    )
    return MemoryPlan(places, dict(found.ports), {layer: buffers[name] for name, layer in stages.items()}, report)


def too_large(graph: Graph, emitter: ProgramEmitter, block: Lifetime) -> CompileError:
    """The error for a model whose tensors do not fit DDR."""
    have = emitter.target.memories.ddr.usable
    return CompileError(
        f"tensor '{block.name}' ({block.size:,} bytes) does not fit DDR beside the others; there are {have:,} bytes",
        where=graph.name,
        fix="Make the input smaller, or cut the batch.",
    )
