"""Between two barriers no core writes what another core writes or reads: the result does not depend on who is first."""

from dataclasses import replace

import numpy as np
import pytest
from graphs import KINDS, graphs, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axcompiler import target
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.program import NONE, Program, ProgramHeader, Space
from axforge.axcompiler.strides import dense
from axforge.axcompiler.tile.accesses import ByteRuns, byte_runs
from axforge.axcompiler.tile.emit import ProgramEmitter
from axforge.axcompiler.tile.lower import compile_program
from axforge.axcompiler.tile.passes.drop_barriers import DropBarriers
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
        audit(compiled(random_graph(seed, (kind, kind)), 4))


@pytest.mark.parametrize("seed", range(4))
def test_every_barrier_that_is_left_is_needed(seed):
    program = compiled(random_graph(seed, ("conv", "max_pool", "conv", "add", "conv")), 4)
    waits = program.streams[0]["imm"][program.streams[0]["op"] == Opcode.WAIT, 0]
    assert len(waits)
    audit(program)
    for semaphore in waits:
        streams = tuple(s[~(np.isin(s["op"], (Opcode.SIGNAL, Opcode.WAIT)) & (s["imm"][:, 0] == semaphore))] for s in program.streams)
        with pytest.raises(Race):
            audit(replace(program, streams=streams))


def barriers(program: Program) -> int:
    return int((program.streams[0]["op"] == Opcode.WAIT).sum())


def shared_rows(out: int, a: int, b: int) -> Program:
    """Cores 0 and 1 each copy a row of L2 to another place, twice, with a barrier between.

    out: where the second copies go; a, b: whose row they read and write there (0: their own, 1: the other core's).
    """
    em = ProgramEmitter(METIS, 2, "rows")
    rows = [dense(em.buffer(Space.L2, offset, 128, 0, 1), (2, 64)) for offset in (0, 128, out)]
    em.begin(0, "first")
    for core in range(2):
        em.copy(core, rows[1].cut(0, core, 1), rows[0].cut(0, core, 1))
    em.barrier()
    em.begin(1, "second")
    for core in range(2):
        em.copy(core, rows[2].cut(0, (core + b) % 2, 1), rows[1].cut(0, (core + a) % 2, 1))
    em.barrier()
    em.finish()
    header = ProgramHeader("metis", 2, ("first", "second"), {}, {}, (), 0, 0, 512, 0)
    return Program(header, em.streams(), em.buffers(), em.operands(), em.epilogues(), b"")


@pytest.mark.parametrize(
    ("out", "a", "b", "left"),
    [
        (256, 0, 0, 0),  # each core reads its own row
        (256, 1, 0, 1),  # the row of the other one
        (0, 0, 0, 0),  # writes where it alone has read
        (0, 0, 1, 1),  # writes where the other one has read
    ],
)
def test_a_barrier_is_left_out_where_no_core_touches_what_another_did(out: int, a: int, b: int, left: int) -> None:
    program = shared_rows(out, a, b)
    assert barriers(program) == 2
    dropped = DropBarriers().apply(program)
    assert barriers(dropped.ir) == left
    assert len(dropped.changed) == 2 - left
    audit(dropped.ir)


def test_barriers_around_an_island_stay():
    graph = random_graph(3, ("island",))
    streams = compiled(graph, 4).streams
    waits = [np.flatnonzero(s["op"] == Opcode.WAIT) for s in streams]
    host = next(k for k, s in enumerate(streams) if (s["op"] == Opcode.HOST).any())
    at = np.flatnonzero(streams[host]["op"] == Opcode.HOST)
    assert all((waits[host] > i).any() for i in at)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-40, 40)), max_size=4), st.sampled_from([1, 4]))
def test_runs_of_bytes_are_those_of_the_elements(axes, itemsize):
    starts, length = byte_runs(axes, itemsize)
    offsets = {0}
    for size, stride in axes:
        offsets = {o + i * stride for o in offsets for i in range(size)}
    exact = {o + b for o in offsets for b in range(itemsize)}
    assert {int(s) + b for s in starts for b in range(length)} >= exact
    if all(stride >= itemsize for _, stride in axes):
        runs = ByteRuns.union(starts, starts + length)
        assert {b for s, e in zip(runs.starts, runs.ends, strict=True) for b in range(s, e)} == exact or len(axes) > 1


@given(*[st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=8)] * 2)
def test_sets_of_bytes_meet_where_they_share_one(a, b):
    first, second = (ByteRuns.union(*np.array([(s, s + n) for s, n in runs], np.int64).reshape(-1, 2).T) for runs in (a, b))
    bytes_of = [{x for s, n in runs for x in range(s, s + n)} for runs in (a, b)]
    assert first.meets(second) == bool(bytes_of[0] & bytes_of[1])
    both = first | second
    assert {x for s, e in zip(both.starts, both.ends, strict=True) for x in range(s, e)} == bytes_of[0] | bytes_of[1]
    assert (both.starts[1:] > both.ends[:-1]).all()
