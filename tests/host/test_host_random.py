"""Random graphs give the reference's codes bit for bit on every code path, with one thread and with two."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from graphs import feeds_for, graphs
from host_support import assert_equal_to_reference, paths

_SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@paths
@settings(max_examples=25, deadline=None, suppress_health_check=_SLOW)
@given(graph=graphs(max_ops=6, empty=True), seed=st.integers(0, 99), threads=st.integers(1, 3))
def test_random_graphs_equal_the_reference(cpu, graph, seed, threads):
    assert_equal_to_reference(graph, feeds_for(graph, seed), cpu, threads)


@paths
@settings(max_examples=15, deadline=None, suppress_health_check=_SLOW)
@given(graph=graphs(max_ops=4, kinds=("conv", "conv_transpose", "fully_connected", "add", "concat", "slice")), seed=st.integers(0, 99))
def test_random_products_equal_the_reference(cpu, graph, seed):
    assert_equal_to_reference(graph, feeds_for(graph, seed), cpu)


@paths
@settings(max_examples=15, deadline=None, suppress_health_check=_SLOW)
@given(graph=graphs(max_ops=6, kinds=("slice", "slice", "concat", "conv", "conv", "max_pool", "reshape", "pad"), empty=True))
def test_views_of_views_and_their_borders_equal_the_reference(cpu, graph):
    """Slices of slices, joined again, padded by convolutions and read by others that want no border."""
    assert_equal_to_reference(graph, feeds_for(graph), cpu)
