"""What the page of a compiled model says, as plain data."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from axforge.axcompiler.ir import Graph, Island
from axforge.axcompiler.program import NONE, Program, Space
from axforge.axcompiler.target import Target
from axforge.axruntime.axmodel import AxModel
from axforge.axruntime.engines.sim.clock.frame import PlayedFrame, play
from axforge.axruntime.engines.sim.clock.tasks import UNITS
from axforge.axruntime.engines.sim.cycles import Cycles, LayerCycles, cycles_of
from axforge.axruntime.prediction.advice import advice
from axforge.axruntime.prediction.boards import predict
from axforge.axruntime.prediction.work import work_of
from axforge.axruntime.report.layout import places

#: spans of the Gantt chart that one page holds at most: neighbouring ones of a unit are drawn as one until they are no more
MOST_SPANS = 20_000
#: a layer waits (for others, for instructions, for barriers) if its busiest unit works in less than this share of its cycles
_WAITS = 0.5
_UNITS = {
    "in": "transfers into L1",
    "out": "transfers out of L1",
    "load": "loading weights",
    "array": "matrix products",
    "dwpu": "depthwise and pooling",
    "dpu": "element-wise",
}


class LayerFacts(msgspec.Struct, frozen=True):
    """A layer. where: AIPU, CPU, or view (other strides of memory, which costs nothing). at: cycle at which the layers before are done.

    cycles: by which it delays the end of all before it. limit: what it waits for most. busy: cycles of each unit, of all cores together.
    memory: bytes of L1 (of the fullest core), L2 and DDR that are taken while it runs. moved: bytes of DDR and L2 that it moves.
    noise: share of the outputs' noise that comes from rounding its results; None if it was not measured. place: column and row in the
    drawing.
    """

    name: str
    operator: str
    where: str
    note: str
    result: str
    macs: int
    at: int
    cycles: int
    limit: str
    utilisation: float
    busy: dict[str, int]
    memory: tuple[int, int, int]
    moved: tuple[int, int]
    noise: float | None
    place: tuple[int, int]


class UnitRow(msgspec.Struct, frozen=True):
    """A row of the Gantt chart. spans: layer, start and end of each, one after the other, by time."""

    title: str
    spans: list[int]


class Facts(msgspec.Struct, frozen=True):
    """A compiled model. summary, help: sentences. limits: (what layers wait for, share of the frame's cycles), the largest first.

    roofs: multiply-adds a cycle that the arrays make, bytes a cycle of DDR and L2. capacity: bytes of L1 (of a core), L2 and DDR.
    """

    name: str
    summary: list[str]
    help: list[str]
    limits: list[tuple[str, float]]
    total: int
    clock_hz: int
    roofs: tuple[float, float, float]
    capacity: tuple[int, int, int]
    layers: list[LayerFacts]
    edges: list[tuple[int, int]]
    rows: list[UnitRow]


def facts_of(model: AxModel, noise: Mapping[str, float] | None = None, title: str = "") -> Facts:
    """The facts of a checked model. noise: share of the outputs' noise that comes from each tensor, where that was measured.

    title: instead of the name in the file.
    """
    graph, program, target = model.graph, model.program, model.target
    frame = play(program, target)
    cycles = cycles_of(frame, program, target)
    reads = _reads(graph)
    layers = list(_layers(model, frame, cycles, reads, noise))
    predictions = predict(graph, program, target)
    return Facts(
        name=title or model.meta.name,
        summary=[*_summary(model, cycles), *(f"predicted: {one}" for one in predictions)],
        help=advice(graph, work_of(graph, program, target), target) if predictions else [],
        limits=_limits(layers, cycles.total),
        total=cycles.total,
        clock_hz=cycles.clock_hz,
        roofs=(cycles.peak_macs * cycles.cores, *_bandwidths(target, cycles.cores)),
        capacity=(target.memories.l1.usable, target.memories.l2.usable, target.memories.ddr.usable),
        layers=layers,
        edges=[(source, i) for i, sources in enumerate(reads) for source in sources],
        rows=_rows(frame, cycles),
    )


def _summary(model: AxModel, cycles: Cycles) -> Iterator[str]:
    ops, cores = model.graph.ops, f"{cycles.cores} core{'s' * (cycles.cores > 1)}"
    yield f"{len(ops)} layers for {model.meta.target} on {cores}, {sum(isinstance(op, Island) for op in ops)} of them on the CPU"
    yield (
        f"a frame takes {cycles.total:,} cycles, {cycles.total / cycles.clock_hz * 1e3:.3f} ms on the AIPU and {cycles.latency_ms:.3f} ms "
        f"with transfers; about {cycles.frames_per_second:,.0f} frames/s; {cycles.utilisation:.1%} of the arrays' peak (cycle model)"
    )


def _bandwidths(target: Target, cores: int) -> tuple[float, float]:
    """Bytes a cycle of DDR and L2 that so many cores reach."""
    dma = target.dma
    return (
        float(min(dma.ddr_total_bytes_per_cycle, cores * dma.ddr_bytes_per_cycle)),
        float(min(dma.l2_total_bytes_per_cycle, cores * dma.l2_bytes_per_cycle)),
    )


def _reads(graph: Graph) -> list[list[int]]:
    """Of each layer, the layers that make what it reads, each once."""
    makers: dict[str, int] = {}
    found = []
    for i, op in enumerate(graph.ops):
        found.append(sorted({makers[name] for name in op.inputs if name in makers}))
        makers.update(dict.fromkeys(op.outputs, i))
    return found


def _limits(layers: Sequence[LayerFacts], total: int) -> list[tuple[str, float]]:
    shares: dict[str, float] = defaultdict(float)
    for layer in layers:
        if layer.limit:
            shares[layer.limit] += layer.cycles / max(1, total)
    return sorted(shares.items(), key=lambda item: -item[1])


# ---------------------------------------------------------------- layers


@dataclass
class _Played:
    """What the clock saw of a layer. busy: cycles by (unit, core). slow: cycles that transfers took of DDR and of L2."""

    busy: dict[tuple[int, int], float]
    ddr: float = 0.0
    l2: float = 0.0
    slow_ddr: float = 0.0
    slow_l2: float = 0.0


def _played(frame: PlayedFrame, layers: int) -> list[_Played]:
    found = [_Played(defaultdict(float)) for _ in range(layers)]
    for task in frame.tasks():
        one = found[task.layer]
        one.busy[task.unit, task.core] += task.end - task.start
        if transfer := task.transfer:
            ddr = transfer.ddr + transfer.weights
            one.ddr += ddr * transfer.cycles
            one.l2 += transfer.l2 * transfer.cycles
            one.slow_ddr += transfer.cycles if ddr else 0
            one.slow_l2 += transfer.cycles if transfer.l2 and not ddr else 0
    return found


def _layers(
    model: AxModel, frame: PlayedFrame, cycles: Cycles, reads: list[list[int]], noise: Mapping[str, float] | None
) -> Iterator[LayerFacts]:
    graph, played = model.graph, _played(frame, len(model.graph.ops))
    memory, drawn = _memory(model.program, len(graph.ops)), places(reads)
    hosts, at = {layer for layer, *_ in frame.host}, 0
    for i, (op, counted, one) in enumerate(zip(graph.ops, cycles.layers, played, strict=True)):
        on_cpu = isinstance(op, Island)
        yield LayerFacts(
            name=op.name,
            operator=type(op).__name__,
            where="CPU" if on_cpu else "AIPU" if one.busy else "view",
            note=op.reason if isinstance(op, Island) else "",
            result="x".join(map(str, graph.tensors[op.outputs[0]].shape)),
            macs=counted.macs,
            at=at,
            cycles=counted.cycles,
            limit="the CPU" if i in hosts and not one.busy else _limit(one, counted),
            utilisation=round(cycles.layer_utilisation(counted), 4),
            busy=counted.busy,
            memory=memory[i],
            moved=(round(one.ddr), round(one.l2)),
            noise=sum(noise.get(name, 0.0) for name in op.outputs) if noise is not None else None,
            place=drawn[i],
        )
        at += counted.cycles


def _limit(played: _Played, counted: LayerCycles) -> str:
    """What a layer waits for most; '' where it takes no time."""
    if not played.busy or not counted.cycles:
        return ""
    (unit, _), longest = max(played.busy.items(), key=lambda item: item[1])
    if longest < _WAITS * counted.cycles:
        return "waiting for one another"
    if UNITS[unit] in ("in", "out"):
        return f"{'DDR' if played.slow_ddr >= played.slow_l2 else 'L2'}: {_UNITS[UNITS[unit]]}"
    return _UNITS[UNITS[unit]]


def _memory(program: Program, layers: int) -> list[tuple[int, int, int]]:
    """Bytes of L1 (of the fullest core), L2 and DDR that are taken in each layer; constants are in DDR from end to end."""
    taken: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0] * layers)
    for row in program.buffers:
        space, last = int(row["space"]), int(row["last"])
        if space == Space.CONST:
            continue
        held = taken[space, int(row["core"]) if space == Space.L1 else 0]
        for layer in range(int(row["first"]), min(last if last != NONE else layers - 1, layers - 1) + 1):
            held[layer] += int(row["size"])
    l1 = [held for (space, _), held in taken.items() if space == Space.L1]
    l2, ddr = (taken[int(space), 0] for space in (Space.L2, Space.DDR))
    constants = program.header.const_size
    return [(max((core[i] for core in l1), default=0), l2[i], ddr[i] + constants) for i in range(layers)]


# ---------------------------------------------------------------- the Gantt chart


def _rows(frame: PlayedFrame, cycles: Cycles) -> list[UnitRow]:
    """A row for each unit of each core that works, and one for the host."""
    spans: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
    for task in frame.tasks():
        spans[task.core, task.unit].append((task.layer, round(task.start), round(task.end)))
    spans[cycles.cores, 0] = [(layer, round(start), round(end)) for layer, start, end in frame.host if end > start]
    found = {key: sorted(row, key=lambda span: span[1]) for key, row in sorted(spans.items()) if row}
    gap = max(1, cycles.total // 4000)
    joined = {key: _joined(row, gap) for key, row in found.items()}
    while sum(map(len, joined.values())) > MOST_SPANS:
        gap *= 2
        joined = {key: _joined(row, gap, layers_too=True) for key, row in joined.items()}
    return [
        UnitRow("host" if core == cycles.cores else f"core {core}: {UNITS[unit]}", [number for span in row for number in span])
        for (core, unit), row in joined.items()
    ]


def _joined(spans: Sequence[tuple[int, int, int]], gap: int, *, layers_too: bool = False) -> list[tuple[int, int, int]]:
    """Spans with gaps of less than `gap` cycles between drawn as one, if they are of one layer.

    layers_too: those that are themselves shorter than a gap join another layer's, too.
    """
    out: list[tuple[int, int, int]] = []
    for layer, start, end in spans:
        if out and start - out[-1][2] < gap and (layer == out[-1][0] or (layers_too and end - start < gap)):
            out[-1] = (out[-1][0], out[-1][1], max(end, out[-1][2]))
        else:
            out.append((layer, start, end))
    return out
