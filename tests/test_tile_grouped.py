"""Grouped convolutions: cores and passes begin and end in the middle of a matrix, and the simulator still equals the reference."""

import msgspec
import numpy as np
import pytest
from graphs import feeds_for
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axcompiler import ir, target
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.reference import Reference
from axforge.axcompiler.tile.lower import compile_program
from axforge.axruntime.engines.sim.engine import SimEngine
from axforge.axruntime.program_check import check

METIS = target.load("metis")


def grouped(groups: int, deep: int, wide: int, kernel: int, size: int) -> Graph:
    """One convolution of `groups` groups with `deep` input and `wide` output channels each, on a size x size image."""
    rng = np.random.default_rng(groups * 1000 + deep * 10 + wide)
    shape, m = (1, groups * deep, size, size), groups * wide
    conv = ir.Conv(
        name="conv",
        inputs=("x",),
        outputs=("y",),
        weight="w",
        bias="b",
        multiplier="m",
        groups=groups,
        pads=(kernel // 2,) * 4,
        epilogue=Epilogue(0),
    )
    return Graph(
        name="grouped",
        tensors={"x": Tensor(shape, quant=Quant(0.1, 3)), "y": Tensor((1, m, size, size), quant=Quant(0.1, 0))},
        ops=(conv,),
        inputs=("x",),
        outputs=("y",),
        constants={
            "w": rng.integers(-127, 128, (m, deep, kernel, kernel), np.int8),
            "b": rng.integers(-999, 999, m, np.int32),
            "m": np.full(m, 2e-3 / kernel, np.float32),
        },
    )


def assert_simulated(graph: Graph, cores: int, l1: int) -> None:
    memories = msgspec.structs.replace(METIS.memories, l1=target.Memory(l1, 0))
    aipu = msgspec.structs.replace(METIS, memories=memories)
    program = compile_program(graph, aipu, cores)[0]
    check(program, graph, aipu)
    feeds = feeds_for(graph)
    engine = SimEngine(graph, program)
    engine.machine.poison(1)
    np.testing.assert_array_equal(engine.run(feeds, raw=True)["y"], Reference(graph).run(feeds, raw=True)["y"])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 24),
    st.sampled_from([2, 3, 8, 24, 48]),
    st.sampled_from([1, 5, 16, 24, 48]),
    st.sampled_from([1, 3]),
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from([120_000, 4 << 20]),
)
def test_any_groups_channels_and_cores(groups, deep, wide, kernel, size, cores, l1):
    assert_simulated(grouped(groups, deep, wide, kernel, size), cores, l1)


@pytest.mark.parametrize("groups,width", [(7, 24), (14, 24), (37, 24), (38, 24), (5, 48)])
@pytest.mark.parametrize("cores", [2, 3, 4])
def test_a_core_that_begins_in_the_middle_of_a_matrix(groups, width, cores):
    """The groups of RegNet, on an image of few places so that the cores share the channels."""
    assert_simulated(grouped(groups, width, width, 3, 1), cores, 4 << 20)
