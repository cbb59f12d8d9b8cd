"""Softmax on every code path: rows of all lengths, any axis, tables, bounds."""

import numpy as np
import pytest
from host_support import assert_equal_to_reference, codes, paths

from axforge.axcompiler import ir, numerics, spec
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor


def softmax_graph(shape, axis=-1, *, multiplier=256.0, table=False, bounds=(-128, 127), step=0.125):
    """One softmax; the scale of its result is 1 / multiplier."""
    exponent = np.rint(np.exp(-step * np.arange(256)) * 2**numerics.SOFTMAX_BITS).astype(np.int32)
    tensors = {"x": Tensor(tuple(shape), quant=Quant(step, 3)), "y": Tensor(tuple(shape), quant=Quant(1 / 256, -128))}
    epilogue = Epilogue(-128, *bounds, table="t" if table else None)
    op = ir.Softmax(name="s", inputs=("x",), outputs=("y",), axis=axis % len(shape), exponent="e", multiplier=multiplier, epilogue=epilogue)
    constants = {"e": exponent} | ({"t": np.random.default_rng(1).integers(-128, 128, 256).astype(np.int8)} if table else {})
    graph = Graph("softmax", tensors, (op,), ("x",), ("y",), constants)
    spec.check(graph)
    return graph


@paths
def test_rows_of_every_length(cpu):
    for count in (1, 2, 15, 16, 17, 31, 48, 63, 64, 65, 79, 80, 81, 128, 197, 400):
        graph = softmax_graph((3, 5, count))
        assert_equal_to_reference(graph, codes(graph), cpu, threads=2)


@paths
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_every_axis(cpu, axis):
    graph = softmax_graph((2, 20, 7, 33), axis)
    assert_equal_to_reference(graph, codes(graph), cpu)


@paths
def test_tables_bounds_and_codes_at_the_ends(cpu):
    graph = softmax_graph((4, 70), table=True, bounds=(-120, 90), step=0.015625)
    assert_equal_to_reference(graph, codes(graph, extreme=True), cpu)
    for value in (-128, 127):
        assert_equal_to_reference(graph, {"x": np.full((4, 70), value, np.int8)}, cpu)


@paths
def test_multipliers_at_the_end_of_their_range(cpu):
    for multiplier in (1e-30, 3e9, 1e30):
        graph = softmax_graph((2, 37), multiplier=float(np.float32(multiplier)))
        assert_equal_to_reference(graph, codes(graph), cpu)
