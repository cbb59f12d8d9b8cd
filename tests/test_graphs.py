"""The random graphs that engines are tried on are valid, reach every operator, and give the same graph for the same seed."""

import numpy as np
import pytest
from graphs import KINDS, feeds_for, graphs, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axcompiler import graphfile, ir, spec
from axforge.axcompiler.reference import Reference


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(0, 99))
def test_random_graphs_are_valid_and_run(graph, seed):
    spec.check(graph)
    outs = Reference(graph).run(feeds_for(graph, seed), raw=True)
    for name in graph.outputs:
        assert outs[name].shape == graph.tensors[name].shape
        assert outs[name].dtype == np.int8


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_reached(kind):
    made = random_graph(7, (kind,))
    assert [op.tag() for op in made.ops] == [kind]
    assert graphfile.to_sections(made) == graphfile.to_sections(random_graph(7, (kind,)))


def test_every_operator_has_a_kind():
    assert set(ir.OPERATORS) == set(KINDS)
