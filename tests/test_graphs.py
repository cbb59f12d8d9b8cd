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


def test_random_graphs_reach_what_is_rare():
    """Sizes 0 and 1, an axis walked as far and as wide as it goes, backwards too, a slice of a slice, an operand stretched from 1."""
    seen = set()
    for seed in range(300):
        graph = random_graph(seed, ("slice", "slice", "add", "conv", "slice", "concat"), empty=True, branch=0.3 * (seed % 2))
        made_by = {out: op for op in graph.ops for out in op.outputs}
        for op in graph.ops:
            shapes = [graph.tensors[n].shape for n in op.inputs]
            seen |= {d for shape in shapes for d in shape if d < 2}
            if isinstance(op, ir.Slice):
                seen |= {"slice of a slice"} if isinstance(made_by.get(op.inputs[0]), ir.Slice) else set()
                for size, step in zip(shapes[0], op.steps, strict=True):
                    seen |= ({"backwards"} if step < 0 else set()) | ({"from end to end"} if abs(step) == size - 1 > 3 else set())
            if isinstance(op, ir.Conv) and 0 in shapes[0]:
                seen.add("a border around nothing")
            if isinstance(op, ir.Add) and any(a == 1 < b for a, b in zip(*shapes, strict=False)):
                seen.add("stretched")
    assert seen == {0, 1, "slice of a slice", "backwards", "from end to end", "a border around nothing", "stretched"}
