"""The path `amx` with its tile instructions in software: products with constant weights and of two activations, and random graphs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from graphs import feeds_for, graphs
from host_support import assert_equal_to_reference, codes, conv_graph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from software_tiles import software_tiles
from test_host_matmul import SHAPES, ZEROS, pairs, product_graph

assert software_tiles
_FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("swapped", [(False, False), (False, True)], ids=["", "b"])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES.keys())
def test_products_of_activations(software_tiles, shapes, swapped):
    graph = product_graph(*shapes, swapped=swapped)
    assert_equal_to_reference(graph, codes(graph), "amx", 2, software_tiles)


@pytest.mark.parametrize("zeros", [(-128, 127), (127, -128), (0, 0)], ids=str)
def test_zero_points_at_the_ends_of_their_range(software_tiles, zeros):
    graph = product_graph((2, 19, 77), (2, 77, 21), zeros=zeros, multiplier=1e-4)
    assert_equal_to_reference(graph, codes(graph, extreme=True), "amx", 1, software_tiles)


@_FEW
@given(shapes=pairs(), zeros=ZEROS, threads=st.integers(1, 3))
def test_random_products_of_activations(software_tiles, shapes, zeros, threads):
    graph = product_graph(*shapes, zeros=zeros)
    assert_equal_to_reference(graph, codes(graph), "amx", threads, software_tiles)


@pytest.mark.parametrize(
    "shape",
    [
        {"channels": 64, "out": 40, "height": 9, "width": 7},
        {"channels": 40, "out": 70, "height": 9, "width": 7, "kernel": 3, "pad": 1, "table": True},
        {"channels": 3, "out": 8, "height": 12, "width": 12, "kernel": 6, "stride": 2, "pad": 2, "extreme": True, "scale": 1e-5},
    ],
    ids=["pointwise", "dense", "first layer"],
)
def test_convolutions(software_tiles, shape):
    graph = conv_graph(**shape)
    assert_equal_to_reference(graph, codes(graph), "amx", 2, software_tiles)


@_FEW
@given(graph=graphs(max_ops=4), seed=st.integers(0, 99), threads=st.integers(1, 3))
def test_random_graphs(software_tiles, graph, seed, threads):
    assert_equal_to_reference(graph, feeds_for(graph, seed), "amx", threads, software_tiles)
