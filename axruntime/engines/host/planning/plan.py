"""A graph as a plan: steps with their parameters, constants, and an arena that is planned by liveness."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.params import ARENA, CONSTS, FIRST_ARRAY, Kernel, kernel_of, packed
from axforge.axruntime.engines.host.emission import operators
from axforge.axruntime.engines.host.emission.emitter import Emitter, emits
from axforge.axruntime.engines.host.emission.layout import Layouts, Root, layout, quantized
from axforge.axruntime.engines.host.emission.steps import Constants, IslandStep, Step
from axforge.axruntime.engines.host.planning.arena import Life, allocate
from axforge.axruntime.engines.host.planning.plan_check import SLACK, check
from axforge.axruntime.engines.host.planning.ports import HostPort, Ports

assert operators  # its import registers all operators


PortsByName = dict[str, HostPort]


class Segment(msgspec.Struct, frozen=True):
    """Steps [first, last) run in one native call; then the island, if there is one, whose results enter at the start of the next."""

    first: int
    last: int
    island: ir.Island | None = None


class HostPlan(msgspec.Struct, frozen=True):
    """Everything an engine needs besides code.

    calls: int64 [steps, 2, 3], for every step the plain call and its alternative: number of the kernel, byte offset of its parameters in
    `params`, and 1 if threads need not wait for each other after it. The alternative converts int8 instead of float32; it equals the
    plain call elsewhere.
    """

    steps: tuple[Step, ...]
    segments: tuple[Segment, ...]
    constants: Constants
    arena: int
    params: NDArray[np.int64]
    calls: NDArray[np.int64]
    kernels: tuple[Kernel, ...]
    entries: PortsByName
    exits: PortsByName
    feeds: dict[str, PortsByName]
    arrays: int


def make(graph: Graph, isa: Isa) -> HostPlan:
    """Plans `graph` for one path."""
    layouts = layout(graph)
    m = Emitter(graph, isa, layouts)
    ports = Ports(m)
    entries = {n: ports.entry(n, True) for n in graph.inputs if quantized(graph, n)}
    feeds: dict[str, PortsByName] = {}
    for op in graph.ops:
        if isinstance(op, ir.Island):
            feeds[op.name] = {n: ports.exit(n, False) for n in dict.fromkeys(op.inputs) if quantized(graph, n)}
            m.steps.append(IslandStep(op))
            feeds[op.name] |= {n: ports.entry(n, False) for n in op.outputs if quantized(graph, n)}
        elif any(0 not in graph.tensors[n].shape for n in op.outputs):  # of nothing, nothing is to be computed
            emits[type(op)](m, op)
    exits = {n: ports.exit(n, True) for n in dict.fromkeys(graph.outputs) if quantized(graph, n)}
    check([*(s for s in m.steps if isinstance(s, Step)), *ports.alternatives.values()], layouts.roots, m.consts)
    return _assembled(m, layouts, ports, entries, exits, feeds)


def _assembled(
    m: Emitter,
    layouts: Layouts,
    ports: Ports,
    entries: PortsByName,
    exits: PortsByName,
    feeds: dict[str, PortsByName],
) -> HostPlan:
    # ports number all steps, a plan only the native ones
    number = {at: i for i, at in enumerate(at for at, s in enumerate(m.steps) if isinstance(s, Step))}
    steps = [s for s in m.steps if isinstance(s, Step)]
    phases = _phases(m.steps)
    offsets, size = allocate(_lives(steps, phases, layouts.roots))
    alternatives = {number[at]: step for at, step in ports.alternatives.items()}
    kernels, params, calls = _calls(steps, alternatives, phases, _places(layouts.roots, offsets))

    def renumber(group: PortsByName) -> PortsByName:
        return {n: HostPort(p.tensor, p.array, number.get(p.step, -1)) for n, p in group.items()}

    return HostPlan(
        steps=tuple(steps),
        segments=tuple(_segments(m.steps)),
        constants=m.consts,
        arena=size + SLACK,
        params=params,
        calls=calls,
        kernels=kernels,
        entries=renumber(entries),
        exits=renumber(exits),
        feeds={k: renumber(v) for k, v in feeds.items()},
        arrays=FIRST_ARRAY + ports.count,
    )


def _segments(steps: Sequence[Step | IslandStep]) -> list[Segment]:
    out, first, count = [], 0, 0
    for step in steps:
        if isinstance(step, IslandStep):
            out.append(Segment(first, count, step.op))
            first = count
        else:
            count += 1
    return [*out, Segment(first, count)]


def _phases(steps: Sequence[Step | IslandStep]) -> list[int]:
    """Phase of every native step. Threads meet between phases only: steps of one phase touch nothing that another of them writes."""
    phases: list[int] = []
    now, reads, writes, disjoint = 0, set[str](), set[str](), set[str]()
    for step in steps:
        if isinstance(step, IslandStep):
            now, reads, writes, disjoint = now + 1, set(), set(), set()
            continue
        others = set() if step.disjoint_writes else writes
        clash = set(step.writes) & (reads | others) or set(step.reads) & (writes | disjoint)
        if clash:
            now, reads, writes, disjoint = now + 1, set(), set(), set()
        reads |= set(step.reads)
        (disjoint if step.disjoint_writes else writes).update(step.writes)
        phases.append(now)
    return phases


def _lives(steps: Sequence[Step], phases: Sequence[int], roots: Mapping[str, Root]) -> dict[str, Life]:
    spans: dict[str, tuple[int, int]] = {}
    for step, phase in zip(steps, phases, strict=True):
        for root in step.reads + step.writes:
            spans[root] = (spans[root][0] if root in spans else phase, phase)
    return {name: Life(roots[name].size, *span) for name, span in spans.items()}


def _places(roots: Mapping[str, Root], offsets: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Where every buffer is: the number of a base address and bytes from there; '' are the constants."""
    places = {name: (ARENA, offset) for name, offset in offsets.items()}
    places.update((name, (root.array, 0)) for name, root in roots.items() if root.array >= 0)
    places[""] = CONSTS, 0
    return places


def _calls(
    steps: Sequence[Step], alternatives: Mapping[int, Step], phases: Sequence[int], places: Mapping[str, tuple[int, int]]
) -> tuple[tuple[Kernel, ...], NDArray[np.int64], NDArray[np.int64]]:
    """The kernels, the parameter blocks of all steps, and `HostPlan.calls`."""
    numbers: dict[object, int] = {}
    kernels: list[Kernel] = []
    params: list[int] = []

    def call(step: Step) -> tuple[int, int]:
        kernel = numbers.setdefault(step.signature, len(kernels))
        if kernel == len(kernels):
            kernels.append(kernel_of(step.params))
        at = 8 * len(params)
        params.extend(packed(step.leaves, places))
        return kernel, at

    calls = []
    for i, step in enumerate(steps):
        same_phase = i + 1 < len(steps) and phases[i] == phases[i + 1]
        plain = (*call(step), same_phase)
        calls.append((plain, (*call(alternatives[i]), same_phase) if i in alternatives else plain))
    return tuple(kernels), np.array(params, np.int64), np.array(calls, np.int64).reshape(-1, 2, 3)
