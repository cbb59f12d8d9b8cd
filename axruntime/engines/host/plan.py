"""A graph as a plan: steps with their parameters, constants, and an arena that is planned by liveness."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph
from axforge.axruntime.engines.host import emit_conv
from axforge.axruntime.engines.host.arena import Life, allocate
from axforge.axruntime.engines.host.codegen import families
from axforge.axruntime.engines.host.emit import EMITTERS, Emitter
from axforge.axruntime.engines.host.emit_ports import cross
from axforge.axruntime.engines.host.features import Isa
from axforge.axruntime.engines.host.layout import Layouts, Root, layout, quantized
from axforge.axruntime.engines.host.steps import ARENA, CONSTS, FIRST_ARRAY, Constants, IslandStep, Key, Step

assert emit_conv  # its import fills EMITTERS

#: bytes past a buffer's end that a kernel may read (never write): one whole tile row
SLACK = 256


@dataclass(frozen=True)
class Port:
    """A crossing between a caller's logical array and the arena.

    array: number of its base address; step: number of the native step that converts.
    """

    tensor: str
    array: int
    step: int


@dataclass(frozen=True)
class Segment:
    """Steps [first, last) run in one native call; then the island, if there is one, whose results enter at the start of the next."""

    first: int
    last: int
    island: ir.Island | None = None


@dataclass(frozen=True)
class Plan:
    """Everything an engine needs besides code.

    kernels: specialisations, numbered. program: (kernel, byte offset of its parameters in `params` plus 1 if the next step is of the same
    phase, both for the plain step and for its alternative) a step; the alternative converts int8 instead of float32 and equals the
    plain one elsewhere.
    """

    steps: tuple[Step, ...]
    segments: tuple[Segment, ...]
    constants: Constants
    arena: int
    params: NDArray[np.int64]
    program: NDArray[np.int64]
    kernels: tuple[Key, ...]
    entries: dict[str, Port]
    exits: dict[str, Port]
    feeds: dict[str, dict[str, Port]]
    arrays: int


class _Ports:
    """Numbers the caller's arrays and emits their conversions."""

    def __init__(self, m: Emitter) -> None:
        self.m, self.count = m, 0
        self.alternatives: dict[int, Step] = {}

    def entry(self, name: str, real: bool) -> Port:
        """Into the arena: float32 (or, as alternative, codes) if `real`, else codes."""
        return self._convert(name, ("quantize", "enter") if real else ("enter",))

    def exit(self, name: str, real: bool) -> Port:
        """Out of the arena: float32 (or codes) if `real`, else codes."""
        return self._convert(name, ("dequantize", "leave") if real else ("leave",))

    def _convert(self, name: str, ops: Sequence[str]) -> Port:
        array = FIRST_ARRAY + self.count
        self.count += 1
        if math.prod(self.m.graph.tensors[name].shape) == 0:
            return Port(name, array, -1)
        for op in reversed(ops):
            if op != ops[-1]:
                codes = self.m.steps.pop()
                assert isinstance(codes, Step)
                self.alternatives[len(self.m.steps)] = codes
            cross(self.m, name, op, array)
        return Port(name, array, len(self.m.steps) - 1)


def make(graph: Graph, isa: Isa) -> Plan:
    """Plans `graph` for one path."""
    layouts = layout(graph)
    m = Emitter(graph, isa, layouts)
    ports = _Ports(m)
    entries = {n: ports.entry(n, True) for n in graph.inputs if quantized(graph, n)}
    feeds: dict[str, dict[str, Port]] = {}
    for op in graph.ops:
        if isinstance(op, ir.Island):
            feeds[op.name] = {n: ports.exit(n, False) for n in dict.fromkeys(op.inputs) if quantized(graph, n)}
            m.steps.append(IslandStep(op.name, op))
            feeds[op.name] |= {n: ports.entry(n, False) for n in op.outputs if quantized(graph, n)}
        else:
            EMITTERS[type(op)](m, op)
    exits = {n: ports.exit(n, True) for n in dict.fromkeys(graph.outputs) if quantized(graph, n)}
    return _assemble(m, layouts, ports, entries, exits, feeds)


def _assemble(
    m: Emitter, layouts: Layouts, ports: _Ports, entries: dict[str, Port], exits: dict[str, Port], feeds: dict[str, dict[str, Port]]
) -> Plan:
    native = [i for i, s in enumerate(m.steps) if isinstance(s, Step)]
    number = {at: i for i, at in enumerate(native)}
    steps = [s for s in m.steps if isinstance(s, Step)]
    phases = _phases(m.steps)
    offsets, size = allocate(_lives(steps, phases, layouts.roots))
    kernels: dict[Key, int] = {}
    params: list[int] = []
    program = np.zeros((len(steps), 4), np.int64)
    for at, i in number.items():
        for column, step in ((0, steps[i]), (2, ports.alternatives.get(at, steps[i]))):
            if column and step is steps[i]:
                program[i, 2:] = program[i, :2]
                continue
            program[i, column] = kernels.setdefault(step.key, len(kernels))
            program[i, column + 1] = len(params)
            params += _parameters(step, offsets)

    for i in range(len(steps) - 1):
        # bit 0 of a parameter's address tells the driver that no thread need wait after the step
        program[i, 1] = program[i, 1] * 8 + (phases[i] == phases[i + 1])
        program[i, 3] = program[i, 3] * 8 + (phases[i] == phases[i + 1])
    program[-1:, 1::2] *= 8

    def renumber(group: dict[str, Port]) -> dict[str, Port]:
        return {n: Port(n, p.array, number.get(p.step, -1)) for n, p in group.items()}

    return Plan(
        tuple(steps),
        tuple(_segments(m.steps)),
        m.consts,
        size + SLACK,
        np.array(params, np.int64),
        program,
        tuple(kernels),
        renumber(entries),
        renumber(exits),
        {k: renumber(v) for k, v in feeds.items()},
        FIRST_ARRAY + ports.count,
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
    now, reads, writes, apart = 0, set[str](), set[str](), set[str]()
    for step in steps:
        if isinstance(step, IslandStep):
            now, reads, writes, apart = now + 1, set(), set(), set()
            continue
        others = set() if step.apart else writes
        clash = set(step.writes) & (reads | others) or set(step.reads) & (writes | apart)
        if clash:
            now, reads, writes, apart = now + 1, set(), set(), set()
        reads |= set(step.reads)
        (apart if step.apart else writes).update(step.writes)
        phases.append(now)
    return phases


def _lives(steps: Sequence[Step], phases: Sequence[int], roots: dict[str, Root]) -> dict[str, Life]:
    spans: dict[str, tuple[int, int]] = {}
    for step, phase in zip(steps, phases, strict=True):
        for root in (*step.reads, *step.writes):
            spans[root] = (spans[root][0] if root in spans else phase, phase)
    return {name: Life(roots[name].size, *span) for name, span in spans.items()}


def _parameters(step: Step, offsets: dict[str, int]) -> list[int]:
    """The kernel's int64 parameters in the order of its names; what a step does not give is 0 (and not read)."""
    values = dict(step.numbers)
    for name, ref in step.operands.items():
        base = ref.array if ref.array >= 0 else ARENA if ref.root else CONSTS
        values[name + ".base"], values[name] = base, ref.offset + (offsets[ref.root] if ref.root else 0)
    names = families[step.key[0]][0](step.key[1])
    unknown = values.keys() - set(names)
    assert not unknown, f"{step.key}: no parameter {sorted(unknown)}"
    return [values.get(n, 0) for n in names]
