"""Where tensors live: L2 by liveness (greedy by size, first fit), DDR for what the host touches and what does not fit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from axcompiler import ir
from axcompiler.ir import Graph
from axcompiler.program import Port, Space
from axcompiler.tile.emit import Emitter
from axcompiler.tile.views import Shape, View


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


def first_fit(blocks: Iterable[Lifetime], capacity: int) -> tuple[dict[str, int], list[Lifetime]]:
    """Offsets of the blocks that fit below `capacity`, largest first, each at the lowest free place; and the blocks that do not."""
    placed: list[tuple[int, Lifetime]] = []
    offsets: dict[str, int] = {}
    spilled: list[Lifetime] = []
    for block in sorted(blocks, key=lambda b: (-b.size, b.first, b.name)):
        at = 0
        for offset, other in sorted(((o, p) for o, p in placed if p.meets(block)), key=lambda pair: pair[0]):
            if at + block.size <= offset:
                break
            at = max(at, offset + other.size)
        if at + block.size > capacity:
            spilled.append(block)
            continue
        placed.append((at, block))
        offsets[block.name] = at
    return offsets, spilled


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
    halo: tuple[int, int, int, int] = (0, 0, 0, 0)


class MemoryReport(msgspec.Struct, frozen=True):
    """Bytes of each memory; `bound` is what no allocation of the same tensors can beat."""

    l2_peak: int
    l2_bound: int
    ddr_peak: int
    ddr_bound: int
    spilled: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """places by tensor; ports of the tensors that the host writes or reads; scratch: row-major staging of some reshapes, by operator."""

    places: dict[str, Place]
    ports: dict[str, Port]
    scratch: dict[str, int]
    report: MemoryReport


def pitch(channels: int) -> int:
    """Bytes from pixel to pixel: whole words of 64; several small pixels share a word."""
    for small in (4, 8, 16, 32):
        if channels <= small:
            return small
    return up(channels, 64)


def up(n: int, step: int) -> int:
    """`n` rounded up to a multiple of `step`."""
    return (n + step - 1) // step * step


def host_tensors(graph: Graph) -> dict[str, bool]:
    """Quantized tensors that the host writes (True) or only reads (False), in order of first mention."""
    out: dict[str, bool] = {}
    for name in graph.inputs:
        out[name] = True
    for op in graph.ops:
        if isinstance(op, ir.Island):
            for name in op.inputs:
                out.setdefault(name, False)
            for name in op.outputs:
                out[name] = True
    for name in graph.outputs:
        out.setdefault(name, False)
    return {name: written for name, written in out.items() if graph.tensors[name].quant and name not in graph.constants}


def stem_of(graph: Graph, name: str) -> ir.Conv | None:
    """The convolution whose padding an input buffer may hold: the tensor's only reader."""
    users = [op for op in graph.ops if name in op.inputs]
    if len(users) == 1 and isinstance(users[0], ir.Conv) and name not in graph.outputs:
        return users[0]
    return None


def make_port(graph: Graph, name: str, written: bool) -> tuple[Port, Shape, Shape, tuple[int, int, int, int]]:
    """The padded NHWC buffer of a host tensor; logical strides and offset (as a 1-tuple) of the tensor inside; its halo."""
    tensor = graph.tensors[name]
    assert tensor.quant
    zero, shape = tensor.quant.zero_point, tensor.shape
    if len(shape) != 4:
        *lead, c = shape or (1,)
        wide = max(64, up(c, 64))
        n = lead[0] if lead else 1
        rows, width = (1, 1) if len(lead) < 2 else (1 if len(lead) == 2 else _product(lead[1:-1]), lead[-1])
        strides = _row_major((*lead, wide))[: len(shape)]
        return Port((n, rows, width, wide), (0, 0, 0, 0, 0, 0, 0, wide - c), zero), strides, (0,), (0, 0, 0, 0)
    n, c, h, w = shape
    stem = stem_of(graph, name) if written and c <= 4 else None
    top, left, bottom, right = stem.pads if stem else (0, 0, 0, 0)
    wide = 4 if written and c <= 4 else max(64, up(c, 64))
    full_w = left + w + right
    if wide == 4:
        full_w = up(full_w * 4, 64) // 4
    padded = (n, top + h + bottom, full_w, wide)
    row = full_w * wide
    strides = (padded[1] * row, 1, row, wide)
    pads = (0, 0, top, bottom, left, full_w - left - w, 0, wide - c)
    return Port(padded, pads, zero), strides, (top * row + left * wide,), (top, left, bottom, full_w - left - w)


def _product(sizes: Sequence[int]) -> int:
    out = 1
    for s in sizes:
        out *= s
    return out


def _row_major(shape: Sequence[int]) -> Shape:
    out, step = [], 1
    for size in reversed(shape):
        out.append(step)
        step *= size
    return tuple(reversed(out))


def internal_layout(shape: Shape) -> tuple[Shape, int]:
    """Logical strides and bytes of a tensor that only the AIPU touches: images as N, H, W, padded C; all else row-major."""
    if len(shape) != 4:
        return _row_major(shape), max(1, _product(shape))
    n, c, h, w = shape
    p = pitch(c)
    return (h * w * p, 1, w * p, p), max(1, n * h * w * p)


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


def plan(graph: Graph, emitter: Emitter, scratch: dict[int, int], constants: dict[str, int]) -> Plan:
    """Places for all tensors. scratch: bytes of staging by layer. constants: buffers of constant operands."""
    spans, hosts = lifetimes(graph), host_tensors(graph)
    layouts: dict[str, tuple[Shape, int, int, tuple[int, int, int, int]]] = {}
    ports: dict[str, Port] = {}
    in_l2: list[Lifetime] = []
    in_ddr: list[Lifetime] = []
    for name, (first, last) in spans.items():
        if name in hosts:
            port, strides, (offset,), halo = make_port(graph, name, hosts[name])
            ports[name], size = port, _product(port.shape)
            in_ddr.append(Lifetime(name, emitter.aligned(max(1, size)), first, last))
            layouts[name] = (strides, offset, max(1, size), halo)
        else:
            strides, size = internal_layout(graph.tensors[name].shape)
            in_l2.append(Lifetime(name, emitter.aligned(size), first, last))
            layouts[name] = (strides, 0, size, (0, 0, 0, 0))
    stages = {f"\0scratch{layer}": (layer, size) for layer, size in scratch.items()}
    in_l2 += [Lifetime(name, emitter.aligned(size), layer, layer) for name, (layer, size) in stages.items()]
    l2, spilled = first_fit(in_l2, emitter.target.memories.l2.usable)
    in_ddr += spilled
    ddr, too_many = first_fit(in_ddr, emitter.target.memories.ddr.usable)
    if too_many:
        raise emitter.no_fit(too_many[0].size, f"tensor '{too_many[0].name}'")
    ddr_blocks = {b.name: b for b in in_ddr}
    buffers: dict[str, int] = {}
    for block in (*in_l2, *(b for b in in_ddr if b.name in hosts)):
        space, offset = (Space.DDR, ddr[block.name]) if block.name in ddr_blocks else (Space.L2, l2[block.name])
        buffers[block.name] = emitter.buffer(space, offset, block.size, block.first, block.last)
    places = {
        name: Place(View(buffers[name], offset, graph.tensors[name].shape, strides), halo)
        for name, (strides, offset, _, halo) in layouts.items()
    }
    for name, buffer in constants.items():
        places[name] = Place(View(buffer, 0, graph.tensors[name].shape, _row_major(graph.tensors[name].shape)))
    kept = [b for b in in_l2 if b.name in l2]
    report = MemoryReport(
        l2_peak=peak(kept, l2),
        l2_bound=lower_bound(kept),
        ddr_peak=peak(in_ddr, ddr),
        ddr_bound=lower_bound(in_ddr),
        spilled=tuple(sorted(b.name for b in spilled if not b.name.startswith("\0"))),
    )
    return Plan(places, ports, {name: buffers[name] for name in stages}, report)
