"""Between two barriers no core writes what another core writes or reads: the result does not depend on who is first."""

import numpy as np
import pytest
from graphs import KINDS, graphs, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axcompiler import target
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.program import NONE, Program, Space
from axforge.axcompiler.tile.lower import compile_program
from axforge.axruntime.engines.sim.machine import Machine

METIS = target.load("metis")


class Race(Exception):
    """Two cores meet."""


def epochs(stream: np.ndarray) -> list[np.ndarray]:
    """A stream in parts that end with its waits."""
    cuts = np.flatnonzero(stream["op"] == Opcode.WAIT) + 1
    return np.split(stream, cuts)


def audit(program: Program) -> int:
    """Marks every byte of L2 and DDR with the core that writes it in each epoch; raises Race. Returns the number of epochs."""
    marks = Machine(program, np.zeros(program.header.const_size, np.uint8))
    shared = {int(s) for s in (Space.DDR, Space.L2)}

    def in_shared(index: int) -> bool:
        return index != NONE and int(program.buffers[program.operands[index]["buffer"]]["space"]) in shared

    parts = [epochs(s) for s in program.streams]
    assert len({len(p) for p in parts}) == 1
    for epoch in zip(*parts, strict=True):
        written = []
        for core, records in enumerate(epoch):
            for index in {int(r["out"]) for r in records if in_shared(int(r["out"]))}:
                view = marks.view(index)
                if not np.isin(view, (0, core + 1)).all():
                    raise Race(f"two cores write operand {index}")
                view[...] = core + 1
                written.append(view)
        for core, records in enumerate(epoch):
            for index in {int(r[f]) for r in records for f in ("a", "b", "c") if in_shared(int(r[f]))}:
                if not np.isin(marks.view(index), (0, core + 1)).all():
                    raise Race(f"core {core} reads operand {index} while another writes it")
        for view in written:
            view[...] = 0
    return len(parts[0])


def compiled(graph: Graph, cores: int) -> Program:
    return compile_program(graph, METIS, cores)[0]


@settings(max_examples=40, deadline=None)
@given(graphs(), st.integers(2, 4))
def test_no_races_on_random_graphs(graph, cores):
    audit(compiled(graph, cores))


@pytest.mark.parametrize("kind", KINDS)
def test_no_races_in_any_operator(kind):
    for seed in range(6):
        assert audit(compiled(random_graph(seed, (kind,)), 4)) >= 2


def test_the_audit_sees_a_missing_barrier():
    program = compiled(random_graph(4, ("conv", "max_pool", "conv")), 4)
    layer = next(i for i, s in enumerate(program.streams[0]["layer"]) if s == 1)
    assert layer
    streams = tuple(s[~((s["layer"] == 0) & np.isin(s["op"], (Opcode.SIGNAL, Opcode.WAIT)))] for s in program.streams)
    with pytest.raises(Race):
        audit(Program(program.header, streams, program.buffers, program.operands, program.epilogues, program.constants))
