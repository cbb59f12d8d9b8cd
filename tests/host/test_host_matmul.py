"""Products of two activations on every code path: blocks, batches, transposed operands, zero points at the ends of their range."""

import math

import numpy as np
import pytest
from host_support import assert_equal_to_reference, codes, paths
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axforge.axcompiler import ir, spec
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor


def product_graph(a, b, *, zeros=(-7, 3), multiplier=None, table=False, bounds=(-128, 127), swapped=(False, False), same=False):
    """One product of tensors of shapes a and b. swapped: which operands are stored with their last two axes exchanged; same: b is a."""
    tensors, ops, names = {}, [], []
    for name, shape, zero, swap in zip("ab", (a, b), zeros, swapped, strict=True):
        perm = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
        stored = tuple(shape[p] for p in perm) if swap else tuple(shape)
        source = "a" if same else name
        tensors[source] = Tensor(stored, quant=Quant(0.0625, zero))
        names.append(source)
        if swap:
            tensors[f"{name}.t"] = Tensor(tuple(shape), quant=Quant(0.0625, zero))
            ops.append(ir.Transpose(name=f"{name}.t", inputs=(source,), outputs=(f"{name}.t",), perm=perm))
            names[-1] = f"{name}.t"
    result = (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])
    tensors["y"] = Tensor(result, quant=Quant(0.5, 5))
    # a power of two makes ties again and again
    multiplier = 2.0 ** -round(math.log2(5000 * math.sqrt(a[-1] + 1)) - 5) if multiplier is None else float(np.float32(multiplier))
    epilogue = Epilogue(5, *bounds, table="t" if table else None)
    ops.append(ir.MatMul(name="product", inputs=tuple(names), outputs=("y",), multiplier=multiplier, epilogue=epilogue))
    constants = {"t": np.random.default_rng(1).integers(-128, 128, 256).astype(np.int8)} if table else {}
    graph = Graph("product", tensors, tuple(ops), ("a",) if same else ("a", "b"), ("y",), constants)
    spec.check(graph)
    return graph


ZEROS = st.tuples(st.integers(-128, 127), st.integers(-128, 127))
SHAPES = {
    "one": ((1, 1), (1, 1)),
    "heads": ((1, 3, 37, 64), (1, 3, 64, 37)),
    "probabilities": ((1, 2, 37, 197), (1, 2, 197, 64)),
    "windows": ((5, 2, 49, 32), (5, 2, 32, 49)),
    "broadcast": ((2, 1, 9, 20), (3, 20, 17)),
    "flat second": ((3, 5, 40), (40, 33)),
    "flat first": ((7, 19), (2, 3, 19, 5)),
    "a row": ((4, 1, 70), (4, 70, 30)),
    "a column": ((2, 33, 18), (2, 18, 1)),
    "outer": ((2, 50, 1), (2, 1, 70)),
    "a column of each channel": ((2, 15, 1, 8), (1, 15, 8, 1)),
    "long": ((3, 1000), (1000, 3)),
    "wide": ((2, 33), (33, 300)),
    "no matrices": ((0, 3, 4), (0, 4, 5)),
}


PLAIN = (False, False)
#: every shape as it is, and those that differ in how operands are packed with the axes of either exchanged
CASES = [(name, PLAIN) for name in SHAPES]
CASES += [(name, swapped) for name in ("heads", "a column", "outer", "wide") for swapped in ((False, True), (True, False), (True, True))]


@paths
@pytest.mark.parametrize(("name", "swapped"), CASES, ids=str)
def test_products_equal_the_reference(cpu, name, swapped):
    graph = product_graph(*SHAPES[name], swapped=swapped)
    assert_equal_to_reference(graph, codes(graph), cpu, threads=2)


@paths
@pytest.mark.parametrize("zeros", [(-128, 127), (127, -128), (0, 0), (-128, -128), (127, 127)], ids=str)
def test_zero_points_and_codes_at_the_ends_of_their_range(cpu, zeros):
    graph = product_graph((2, 19, 77), (2, 77, 21), zeros=zeros, multiplier=1e-4)
    assert_equal_to_reference(graph, codes(graph, extreme=True), cpu)
    for a, b in ((-128, -128), (-128, 127), (127, -128)):
        feeds = {name: np.full(graph.tensors[name].shape, value, np.int8) for name, value in (("a", a), ("b", b))}
        assert_equal_to_reference(graph, feeds, cpu)


@paths
def test_tables_bounds_and_large_multipliers(cpu):
    for multiplier in (1e-3, 3.0, 1e30):
        graph = product_graph((2, 5, 33), (33, 40), multiplier=multiplier, table=True, bounds=(-90, 70))
        assert_equal_to_reference(graph, codes(graph), cpu)


@paths
def test_a_tensor_times_its_own_transpose(cpu):
    graph = product_graph((2, 3, 21, 48), (2, 3, 48, 21), zeros=(9, 9), swapped=(False, True), same=True)
    assert_equal_to_reference(graph, codes(graph), cpu, threads=3)


@st.composite
def pairs(draw):
    """Shapes of two operands that multiply, with broadcast leading axes."""
    size = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 97, 129])
    i, j, k = draw(size), draw(size), draw(size)
    lead = draw(st.lists(st.integers(1, 3), max_size=3))
    own = [tuple(1 if draw(st.booleans()) else n for n in lead)[draw(st.integers(0, len(lead))) :] for _ in range(2)]
    return (*own[0], i, k), (*own[1], k, j)


@paths
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    shapes=pairs(),
    zeros=st.tuples(*[st.integers(-128, 127)] * 2),
    swapped=st.tuples(st.booleans(), st.booleans()),
    threads=st.integers(1, 3),
)
def test_random_products_equal_the_reference(cpu, shapes, zeros, swapped, threads):
    graph = product_graph(*shapes, zeros=zeros, swapped=swapped)
    assert_equal_to_reference(graph, codes(graph, seed=threads), cpu, threads)
