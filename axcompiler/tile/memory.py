"""Where tensors live: L2 by liveness (greedy by size, first fit), DDR for what the host touches and what does not fit."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.program import Port, Space
from axforge.axcompiler.strides import row_major
from axforge.axcompiler.tile.emit import ProgramEmitter
from axforge.axcompiler.tile.layout import Halo, TensorLayouts, layouts
from axforge.axcompiler.tile.views import View


@dataclass(frozen=True)
class Lifetime:
    """A block of `size` bytes that is live from layer `first` to layer `last`, both included."""

    name: str
    size: int
    first: int
    last: int

    def meets(self, other: "Lifetime") -> bool:
        """Whether both are live in some layer."""
        return self.first <= other.last and other.first <= self.last


def first_fit(blocks: Sequence[Lifetime], capacity: int) -> tuple[dict[str, int], list[Lifetime]]:
    """Offsets of the blocks that fit below `capacity`, and the blocks that do not.

    Each block goes to the lowest free place. Blocks are tried in three orders (largest first, most bytes x layers first, in order of time);
    the plan that leaves out fewest, and then needs fewest bytes, wins.
    """
    orders = (
        lambda b: (-b.size, b.first, b.name),
        lambda b: (-b.size * (b.last - b.first + 1), b.first, b.name),
        lambda b: (b.first, -b.size, b.name),
    )
    plans = [_place(sorted(blocks, key=order), capacity) for order in orders]
    return min(plans, key=lambda p: (sum(b.size for b in p[1]), peak(blocks, p[0])))


def _place(blocks: Sequence[Lifetime], capacity: int) -> tuple[dict[str, int], list[Lifetime]]:
    """`first_fit` in the given order."""
    placed: list[tuple[int, Lifetime]] = []
    spilled: list[Lifetime] = []
    for block in blocks:
        at = 0
        for offset, other in sorted(((o, p) for o, p in placed if p.meets(block)), key=lambda pair: pair[0]):
            if at + block.size <= offset:
                break
            at = max(at, offset + other.size)
        if at + block.size > capacity:
            spilled.append(block)
        else:
            placed.append((at, block))
    return {block.name: at for at, block in placed}, spilled


def peak(blocks: Sequence[Lifetime], offsets: dict[str, int]) -> int:
    """Bytes from 0 to the end of the highest block."""
    return max((offsets[b.name] + b.size for b in blocks if b.name in offsets), default=0)


def lower_bound(blocks: Sequence[Lifetime]) -> int:
    """The most bytes that are live in one layer: no plan can need less."""
    layers = {b.first for b in blocks}
    return max((sum(b.size for b in blocks if b.first <= layer <= b.last) for layer in sorted(layers)), default=0)


@dataclass(frozen=True)
class Place:
    """A tensor in memory. view: in logical axis order. halo: (top, left, bottom, right) pixels around it that hold the zero point."""

    view: View
    halo: Halo = (0, 0, 0, 0)


class MemoryReport(msgspec.Struct, frozen=True):
    """Bytes of each memory; `bound` is what no allocation of the same tensors can beat."""

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
    l2, spilled = first_fit(in_l2, emitter.target.memories.l2.usable)
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
        l2_bound=lower_bound([b for b in in_l2 if b.name in l2]),
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
