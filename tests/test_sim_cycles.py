"""Cycles are counted as docs/aipu.md says: by hand on a small program, and in proportion on larger ones."""

import msgspec
import numpy as np
import pytest
from graphs import graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axcompiler import ir, target
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.tile import lower
from axforge.axcompiler.tile.lower import compile_program
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
    assert cycles.total == table + codes + unit + back
    assert cycles.layers[0].busy == {"in": table + codes, "dpu": unit, "out": back}
    assert cycles.frames_per_second == pytest.approx(800e6 / cycles.total)


def test_a_barrier_costs_a_signal(monkeypatch):
    half = 2 * (100 + 32 // 16) + 100 + 256 // 16 + 20 + 1  # each of two cores has half of the codes
    assert count_cycles(compile_program(table_graph(), METIS, 2)[0], METIS).total == half  # and no need of a barrier
    monkeypatch.setattr(lower, "PASSES", ())
    assert count_cycles(compile_program(table_graph(), METIS, 2)[0], METIS).total == half + METIS.sync_cycles


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
    fast = msgspec.structs.replace(METIS, dma=target.Dma(1 << 20, 1 << 20, 1 << 20, 0, 0))
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
