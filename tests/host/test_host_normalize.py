"""Layer normalization on every code path: rows of any length, extreme codes, constant rows, strided rows, epsilon of zero."""

import numpy as np
import pytest
from host_support import assert_equal_to_reference, paths

from axforge.axcompiler import spec
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.ir.ops.normalization import LayerNorm
from axforge.axcompiler.numerics import MAX_NORMALIZED

X, Y = Quant(0.0625, -9), Quant(0.03125, 4)


def graph(shape, *, epsilon=0.0, spread=60.0, bounds=(-128, 127), table=False, seed=0):
    """One layer normalization. spread: of the multipliers."""
    rng = np.random.default_rng(seed)
    depth = shape[-1]
    constants = {
        "m": rng.normal(0, spread, depth).astype(np.float32),
        "o": rng.normal(0, 20, depth).astype(np.float32),
        "t": rng.integers(-128, 128, 256).astype(np.int8),
    }
    epilogue = Epilogue(4, *bounds, table="t" if table else None)
    op = LayerNorm(name="norm", inputs=("x",), outputs=("y",), multiplier="m", offset="o", epsilon=epsilon, epilogue=epilogue)
    if not table:
        del constants["t"]
    made = Graph("norm", {"x": Tensor(shape, quant=X), "y": Tensor(shape, quant=Y)}, (op,), ("x",), ("y",), constants)
    spec.check(made)
    return made


@paths
@pytest.mark.parametrize("depth", [1, 2, 7, 15, 16, 17, 31, 33, 64, 65, 127, 384, 1000, 3001])
def test_rows_of_any_length(cpu, depth):
    rng = np.random.default_rng(depth)
    for epsilon in (0.0, float(np.float32(3.7 * depth**2))):
        feeds = {"x": rng.integers(-128, 128, (5, depth)).astype(np.int8)}
        assert_equal_to_reference(graph((5, depth), epsilon=epsilon, seed=depth), feeds, cpu)


@paths
@pytest.mark.parametrize(
    "shape", [(70,), (3, 70), (2, 3, 70), (2, 3, 4, 70), (1, 5, 1, 9), (4, 1), (2, 2, 2, 2, 19), (1, 37, 3, 20), (2, 16, 2, 33)]
)
def test_ranks_and_rows_that_are_not_next_to_each_other(cpu, shape):
    feeds = {"x": np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)}
    assert_equal_to_reference(graph(shape, epsilon=100.0), feeds, cpu, threads=2)


@paths
def test_extreme_and_constant_rows(cpu):
    depth = 517
    rng = np.random.default_rng(2)
    rows = [np.full(depth, v) for v in (-128, 0, 127)]
    rows += [rng.choice([-128, 127], depth), np.where(np.arange(depth) == 3, 127, -128), np.where(np.arange(depth) < 258, -1, 0)]
    feeds = {"x": np.stack(rows).astype(np.int8)}
    for epsilon in (0.0, 1e-30, 1e38):
        assert_equal_to_reference(graph((6, depth), epsilon=float(np.float32(epsilon))), feeds, cpu)


@paths
def test_the_longest_row(cpu):
    rng = np.random.default_rng(3)
    rows = np.stack([rng.choice([-128, 127], MAX_NORMALIZED), np.full(MAX_NORMALIZED, 127), np.full(MAX_NORMALIZED, -128)])
    rows[1, 5] = -128
    assert_equal_to_reference(graph((3, MAX_NORMALIZED)), {"x": rows.astype(np.int8)}, cpu)


@paths
@pytest.mark.parametrize("spread", [1e-3, 1e7, 1e30], ids=["small", "large", "beyond int32"])
def test_bounds_tables_and_large_multipliers(cpu, spread):
    feeds = {"x": np.random.default_rng(4).integers(-128, 128, (3, 200)).astype(np.int8)}
    assert_equal_to_reference(graph((3, 200), spread=spread, bounds=(-20, 90), table=True), feeds, cpu)
    assert_equal_to_reference(graph((3, 200), spread=spread), feeds, cpu)
