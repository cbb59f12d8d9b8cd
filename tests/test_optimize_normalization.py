"""LayerNormalization is within one code of onnxruntime's answer; what the AIPU cannot run stays in float32."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq_models import Model, assert_within, compiled, kinds

from axforge.axcompiler.ir import Graph
from axforge.axcompiler.operators import find
from axforge.axcompiler.operators import normalization as norm


def normalized(
    shape: tuple[int, ...], axis: int, scale: Any, bias: Any = None, *, x_scale: float = 0.02, y_scale: float = 0.05, **attributes: Any
) -> Model:
    """x -> Q/DQ -> LayerNormalization -> Q/DQ."""
    m = Model(opset=17)
    parameters = [m.constant(v) for v in (scale, bias) if v is not None]
    y = m.node("LayerNormalization", m.qdq(m.input("x", shape), x_scale, 11), *parameters, axis=axis, **attributes)
    m.qdq(y, y_scale, -5, out="y")
    return m


def feed(shape: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"x": (rng.normal(size=shape) * rng.uniform(0.05, 1.2, (*shape[:-1], 1)) + 0.1).astype(np.float32)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), max_size=3), st.integers(1, 300), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_it_is_within_a_code_of_onnxruntime(lead: list[int], depth: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (*lead, depth)
    count = min(count, len(shape))
    axes = shape[-count:]
    bias = rng.normal(0, 1, axes) if seed % 3 else None
    m = normalized(
        shape, -count if seed % 2 else len(shape) - count, rng.normal(1, 0.5, axes), bias, epsilon=float(rng.choice([1e-5, 1e-3]))
    )
    graph = assert_within(m.build("y"), feed(shape, seed))
    assert set(kinds(graph)) <= {"LayerNorm", "Reshape"}


def test_a_row_of_one_value_gives_the_bias() -> None:
    bias = np.linspace(-3, 3, 40)
    m = normalized((3, 40), -1, np.full(40, 2.0), bias, epsilon=1e-12)
    graph = assert_within(m.build("y"), {"x": np.full((3, 40), 0.5, np.float32)})
    assert kinds(graph) == ["LayerNorm"]


def test_a_relu_after_it_becomes_its_bounds() -> None:
    m = Model(opset=17)
    y = m.node("LayerNormalization", m.qdq(m.input("x", (4, 30)), 0.02, 3), m.constant(np.ones(30)), m.constant(np.zeros(30)))
    m.qdq(m.node("Relu", y), 0.02, -128, out="y")
    graph = assert_within(m.build("y"), feed((4, 30)))
    assert kinds(graph) == ["LayerNorm"]
    assert graph.ops[0].epilogue.lo == -128


def test_tiny_and_huge_scales_stay_finite() -> None:
    for x_scale, y_scale in ((2.0**-60, 0.05), (1e20, 0.05), (0.02, 2.0**-60)):
        m = normalized((2, 9), -1, np.full(9, 1e30), np.full(9, -1e30), x_scale=x_scale, y_scale=y_scale)
        assert kinds(compiled(m.build("y"))) == ["LayerNorm"]


def run(m: Model) -> Graph:
    return compiled(m.build("y"))


@pytest.mark.parametrize(
    "scale,shape,sentence",
    [
        (np.ones((4, 30)), (4, 30), norm.constant_parameters),
        (np.full(30, np.inf), (4, 30), norm.constant_parameters),
        (np.ones(33_026), (1, 33_026), norm.row_fits),
    ],
    ids=["scale for each row", "infinite", "too long"],
)
def test_what_it_refuses_is_an_island(scale: np.ndarray, shape: tuple[int, ...], sentence: Any) -> None:
    operator = find("LayerNormalization")
    assert operator is not None
    assert sentence in operator.constraints
    m = normalized(shape, -1, scale, np.zeros(shape[-1]))
    assert kinds(run(m)) == ["Island"]


def test_mean_and_deviation_are_for_the_cpu() -> None:
    m = Model(opset=17)
    x = m.qdq(m.input("x", (4, 30)), 0.02, 3)
    y = m.node("LayerNormalization", x, m.constant(np.ones(30)), m.constant(np.zeros(30)), n=2)
    m.qdq(y, 0.02, 0, out="y")
    assert kinds(run(m)) == ["Island"]
