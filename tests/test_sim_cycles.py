"""Cycles are counted as docs/aipu.md says: by hand on a small program, and in proportion on larger ones."""

import msgspec
import numpy as np
import pytest
from graphs import graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axcompiler import ir, target
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.program import Space
from axforge.axcompiler.tile import lower
from axforge.axcompiler.tile.lower import compile_program
from axforge.axruntime.engines.sim.clock.transfers import Side, TransferCosts
from axforge.axruntime.engines.sim.cycles import count_cycles
from axforge.axruntime.engines.sim.engine import SimEngine

METIS = target.load("metis")
Q = Quant(0.5, 0)


def table_graph() -> Graph:
    """64 codes through one table."""
    return Graph(
        name="t",
        tensors={"x": Tensor((1, 64), quant=Q), "y": Tensor((1, 64), quant=Q)},
        ops=(ir.Table(name="t", inputs=("x",), outputs=("y",), table="c"),),
        inputs=("x",),
        outputs=("y",),
        constants={"c": np.arange(-128, 128).astype(np.int8)},
    )


def test_a_table_by_hand():
    cycles = count_cycles(compile_program(table_graph(), METIS, 1)[0], METIS)
    table, codes = 100 + 256 // 16, 100 + 64 // 16  # two copies from DDR, one after the other on one DMA
    unit, back = 20 + 1, 100 + 64 // 16
    assert cycles.total == METIS.issue_cycles + table + codes + unit + back
    assert cycles.layers[0].busy == {"in": table + codes, "dpu": unit, "out": back}
    assert cycles.frames_per_second == pytest.approx(800e6 / cycles.total)
    assert cycles.transfer == 2 * 64 // METIS.pcie_bytes_per_cycle


def test_a_barrier_costs_a_signal(monkeypatch):
    half = METIS.issue_cycles + 2 * (100 + 64 // 16) + 100 + 256 // 16 + 20 + 1  # each of two cores has 32 codes, in a word of 64
    assert count_cycles(compile_program(table_graph(), METIS, 2)[0], METIS).total == half  # and no need of a barrier
    monkeypatch.setattr(lower, "PASSES", ())
    assert count_cycles(compile_program(table_graph(), METIS, 2)[0], METIS).total == half + METIS.sync_cycles


def test_cores_share_the_bandwidth_of_ddr():
    """Two cores that load the same table at once each get half of what DDR has."""
    narrow = msgspec.structs.replace(METIS, dma=msgspec.structs.replace(METIS.dma, ddr_total_bytes_per_cycle=16))
    program = compile_program(table_graph(), METIS, 2)[0]
    apart, together = count_cycles(program, METIS), count_cycles(program, narrow)
    moved = 256 + 64 + 64  # of each core: the table, a word of codes, a word of results
    assert together.total - apart.total == moved // 16
    alone = compile_program(table_graph(), METIS, 1)[0]
    assert count_cycles(alone, narrow).total == count_cycles(alone, METIS).total


def test_programs_side_by_side_load_weights_once_and_share_the_rest():
    narrow = msgspec.structs.replace(METIS, dma=msgspec.structs.replace(METIS.dma, ddr_total_bytes_per_cycle=16))
    program = compile_program(table_graph(), METIS, 1)[0]
    one, four = count_cycles(program, narrow), count_cycles(program, narrow, copies=4)
    assert four.total - one.total == 3 * (64 + 64) // 16  # four times the codes and results, and the table once
    assert four.frames_per_second == pytest.approx(4 * 800e6 / four.total)


@pytest.mark.parametrize(
    "shape, strides, moved",
    [
        ((64, 64), (64, 1), 4096),  # one run
        ((64, 32), (64, 1), 64 * 64),  # runs of half a word each move a word
        ((64, 64), (1, 64), 4096),  # the same bytes in another order, gone through in the order of memory
        ((4, 64), (0, 1), 256),  # a repeated row is read each time
        ((64, 1, 3), (200, 7, 1), 64 * 64),
    ],
)
def test_memories_move_whole_words(shape, strides, moved):
    side = Side(int(Space.L2), shape, strides, 1)
    assert side.moved(side.natural(), 64) == moved


def test_a_transpose_by_bytes_is_slower_than_a_copy():
    costs = TransferCosts(METIS)
    rows, columns = Side(int(Space.L2), (64, 64), (64, 1), 1), Side(int(Space.L1), (64, 64), (1, 64), 1)
    straight = costs.of([rows, Side(int(Space.L1), (64, 64), (64, 1), 1)])
    assert straight.cycles == 4096 // METIS.dma.l2_bytes_per_cycle
    assert costs.of([rows, columns]).cycles == 4096 * 64 // METIS.dma.l1_bytes_per_cycle  # a word for each byte, of the faster memory


def conv_graph(size: int, channels: int) -> Graph:
    """A 1x1 convolution."""
    shape = (1, channels, size, size)
    return Graph(
        name="c",
        tensors={"x": Tensor(shape, quant=Q), "y": Tensor(shape, quant=Q)},
        ops=(ir.Conv(name="c", inputs=("x",), outputs=("y",), weight="w", bias="b", multiplier="m", epilogue=Epilogue(0)),),
        inputs=("x",),
        outputs=("y",),
        constants={
            "w": np.ones((channels, channels, 1, 1), np.int8),
            "b": np.zeros(channels, np.int32),
            "m": np.ones(channels, np.float32),
        },
    )


def test_a_full_array_is_busy_eight_cycles_a_pixel():
    cycles = count_cycles(compile_program(conv_graph(64, 512), METIS, 1)[0], METIS)
    assert cycles.layers[0].busy["array"] == 64 * 64 * 8
    assert cycles.layers[0].macs == 64 * 64 * 512 * 512
    unlimited = {field: 1 << 20 for field in METIS.dma.__struct_fields__ if field.endswith("per_cycle")}
    fast = msgspec.structs.replace(METIS, issue_cycles=0, dma=target.Dma(**unlimited, start_cycles=0, gather_cycles=0))
    assert count_cycles(compile_program(conv_graph(64, 512), fast, 1)[0], fast).utilisation > 0.6


@settings(max_examples=40, deadline=None)
@given(graphs(4), st.integers(1, 4))
def test_layers_add_up_and_nothing_beats_the_peak(graph, cores):
    program = compile_program(graph, METIS, cores)[0]
    cycles = count_cycles(program, METIS)
    assert len(cycles.layers) == len(graph.ops)
    assert sum(layer.cycles for layer in cycles.layers) <= cycles.total
    assert 0 <= cycles.utilisation <= 1
    assert all(0 <= layer.start <= layer.end <= cycles.total for layer in cycles.layers)
    assert SimEngine(graph, program).cycles == cycles
